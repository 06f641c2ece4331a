"""The index of a set of WebDataset shards: where every file of every sample lies, so that any is read by itself.

It is one safetensors file beside the shards, `index.safetensors`, of which only the parts in use are in memory:

    offset, size   int64, uint32 (files,)   place of a file's bytes in its shard
    crc32          uint32 (files,)          of these bytes
    suffix         uint16 (files,)          number of what follows the key in the file's name
    first          int64 (samples + 1,)     number of a sample's first file; the last is the number of files
    samples        int64 (shards,)          samples of each shard

The metadata `glc_train.shards` holds the rest as JSON: version, suffixes, and of each shard name, size and SHA-256.
Names are relative to the index, or whole addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pydantic
import safetensors
from safetensors.numpy import save_file

from glc_train.data.shards.addresses import joined, local_copy
from glc_train.data.shards.errors import ShardError
from glc_train.files import replacing

INDEX_NAME = "index.safetensors"
_METADATA, _VERSION = "glc_train.shards", 1
_FILES = {"offset": np.int64, "size": np.uint32, "crc32": np.uint32, "suffix": np.uint16}
_ROWS_KEPT = 64  # shards whose places are in memory


class Member(NamedTuple):
    """One file of a sample: `size` bytes from `offset` on in its shard, with their CRC-32."""

    suffix: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True)
class ShardRecord:
    """What the index holds of one shard.

    Attributes:
        name: relative to the index, or a whole address.
        size: bytes.
        sha256: of them, in hexadecimal.
        suffixes: of its files.
        files: of each array of the index its part; `suffix` counts in `suffixes`.
        starts: int64 (samples,), number of each sample's first file in the shard.
    """

    name: str
    size: int
    sha256: str
    suffixes: list[str]
    files: dict[str, npt.NDArray[np.generic]]
    starts: npt.NDArray[np.int64]


def shard_record(name: str, size: int, sha256: str, samples: Sequence[Sequence[Member]]) -> ShardRecord:
    """Return the record of a shard that holds these samples."""
    members = [member for sample in samples for member in sample]
    files: dict[str, npt.NDArray[np.generic]] = {
        key: np.array([getattr(member, key) for member in members], _FILES[key]) for key in ("offset", "size", "crc32")
    }
    suffixes = sorted({member.suffix for member in members})
    files["suffix"] = np.array([suffixes.index(member.suffix) for member in members], np.uint16)
    return ShardRecord(name, size, sha256, suffixes, files, np.cumsum([0, *map(len, samples)], dtype=np.int64)[:-1])


class _Shard(NamedTuple):
    name: str
    size: int
    sha256: str


class _Head(pydantic.BaseModel):
    version: int
    suffixes: list[str]
    shards: list[_Shard]
    plan: str


def write_index(path: Path, records: Sequence[ShardRecord], plan: str = "") -> None:
    """Write the index of shards; it appears whole or not at all.

    plan: any text that says what the shards were made of, and how.
    Raises: ShardError if there is no sample, OSError.
    """
    if not any(len(record.starts) for record in records):
        raise ShardError(f"{path}: no samples to index; name tar files that hold some.")
    suffixes = sorted({suffix for record in records for suffix in record.suffixes})
    lengths = [len(record.files["offset"]) for record in records]
    first = [record.starts + before for record, before in zip(records, np.cumsum([0, *lengths]), strict=False)]
    arrays = {key: np.concatenate([record.files[key] for record in records]) for key in ("offset", "size", "crc32")}
    numbers = [np.array([suffixes.index(suffix) for suffix in record.suffixes], np.uint16) for record in records]
    suffix = [number[record.files["suffix"]] for number, record in zip(numbers, records, strict=True)]
    arrays["suffix"] = np.concatenate(suffix)
    arrays["first"] = np.concatenate([*first, np.array([sum(lengths)], np.int64)])
    arrays["samples"] = np.array([len(record.starts) for record in records], np.int64)
    shards = [_Shard(record.name, record.size, record.sha256) for record in records]
    head = _Head(version=_VERSION, suffixes=suffixes, shards=shards, plan=plan)
    with replacing(path) as temporary:
        save_file(arrays, temporary, {_METADATA: head.model_dump_json()})


class ShardIndex:
    """An opened index: its shards, and the files of any sample. Copies in other processes open the file anew.

    Attributes:
        url: of the index.
        urls: of the shards.
        sizes: in bytes.
        sha256: of each.
        counts: int64 (shards,), samples of each.
        ends: int64 (shards,), samples up to and with each.
        plan: what the shards were made of, empty if that is not known.
    """

    def __init__(self, url: str, storage: dict[str, object] | None = None) -> None:
        """Open the index at `url`; `storage`: options of its file system. Raises: ShardError."""
        self.url = url
        self._storage = storage
        try:
            with local_copy(url, storage) as path:
                self._file = safetensors.safe_open(path, "np")
            head = _Head.model_validate_json(self._file.metadata()[_METADATA])
            self.counts: npt.NDArray[np.int64] = self._file.get_tensor("samples")
            shapes = {key: self._file.get_slice(key).get_shape() for key in (*_FILES, "first")}
        except FileNotFoundError as error:
            raise ShardError(f"{url}: no such index; make one with `glc data index`.") from error
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, ShardError):
                raise
            reason = " ".join(str(error).split())
            raise ShardError(f"{url}: not an index of shards ({reason}); make one with `glc data index`.") from error
        files = {tuple(shapes.pop(key)) for key in _FILES}
        if head.version != _VERSION or len(head.shards) != len(self.counts) or len(files) > 1:
            raise self._damaged()
        if shapes["first"] != [self.counts.sum() + 1] or self.counts.min(initial=1) < 0 or not self.counts.sum():
            raise self._damaged()
        self._suffixes = head.suffixes
        self.plan = head.plan
        self.urls = [joined(url, shard.name) for shard in head.shards]
        self.sizes = [shard.size for shard in head.shards]
        self.sha256 = [shard.sha256 for shard in head.shards]
        self.ends = np.cumsum(self.counts)
        self._rows = lru_cache(_ROWS_KEPT)(self._read_rows)

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self.ends[-1])

    def __reduce__(self) -> tuple[type[ShardIndex], tuple[str, dict[str, object] | None]]:
        """Pickle as the address."""
        return ShardIndex, (self.url, self._storage)

    def members(self, number: int) -> tuple[int, list[Member]]:
        """Return the shard of sample `number` >= 0 of all, and the sample's files. Raises: ShardError if damaged."""
        shard = int(np.searchsorted(self.ends, number, side="right"))
        first, files = self._rows(shard)
        inner = number - int(self.ends[shard] - self.counts[shard])
        found = range(*(int(k - first[0]) for k in first[inner : inner + 2]))
        places = (tuple(int(files[key][k]) for key in ("offset", "size", "crc32")) for k in found)
        return shard, [
            Member(self._suffixes[files["suffix"][k]], *place) for k, place in zip(found, places, strict=True)
        ]

    def run(self, number: int, size: int) -> tuple[int, int]:
        """Return where in its shard the run of samples about sample `number` begins and ends.

        A run has the samples that begin in the same piece, one of the pieces of `size` bytes that the shard is cut in.
        Raises: ShardError if damaged.
        """
        shard = int(np.searchsorted(self.ends, number, side="right"))
        first, files = self._rows(shard)
        pieces = files["offset"][first[:-1] - first[0]] // size
        inner = number - int(self.ends[shard] - self.counts[shard])
        same = np.flatnonzero(pieces == pieces[inner])
        of_run = slice(int(first[same[0]] - first[0]), int(first[same[-1] + 1] - first[0]))
        offsets, sizes = (files[key][of_run].astype(np.int64) for key in ("offset", "size"))
        return int(offsets.min()), int((offsets + sizes).max())

    def _read_rows(self, shard: int) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.generic]]]:
        end = int(self.ends[shard])
        first = self._file.get_slice("first")[end - int(self.counts[shard]) : end + 1]
        files = {key: self._file.get_slice(key)[int(first[0]) : int(first[-1])] for key in _FILES}
        beyond = files["offset"] + files["size"] > self.sizes[shard]
        if (np.diff(first) < 1).any() or beyond.any() or (files["suffix"] >= len(self._suffixes)).any():
            raise self._damaged()
        return first, files

    def _damaged(self) -> ShardError:
        return ShardError(f"{self.url}: an index of another version, or damaged; make a new one with `glc data index`.")
