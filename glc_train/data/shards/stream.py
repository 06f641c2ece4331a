"""Samples of shards by place in one endless order, each read by itself; what cannot be used is replaced."""

from __future__ import annotations

import logging
import tarfile
import zlib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from glc_train.data.passes import Passes, shared_flags
from glc_train.data.shards.addresses import joined, read_part
from glc_train.data.shards.errors import BadSampleError, ShardError
from glc_train.data.shards.index import INDEX_NAME, Member, ShardIndex
from glc_train.data.shards.order import ShardOrder
from glc_train.files import printable

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
Files = dict[str, bytes]  # by what follows the key in the name
_PATTERN = frozenset("*?[{")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ShardReading:
    """How shards are read.

    Attributes:
        index: address of the index, if it is not `index.safetensors` beside the shards.
        window: shards whose samples are shuffled among each other.
        max_bad: the run stops when more than this share of all samples was found unusable.
        storage: options of the file system, such as `{anon: true}` for public S3 buckets.
    """

    index: str | None = None
    window: Annotated[int, Field(ge=1)] = 16
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.1
    storage: dict[str, Any] | None = None


class ShardStream:
    """The chosen files of samples, by place in an order that is a function of the seed."""

    def __init__(
        self, root: str, seed: int, choose: Callable[[Sequence[Member]], list[Member]], reading: dict[str, Any] | None
    ) -> None:
        """Open the index.

        root: address of a folder with an index, of an index, of a shard, or a pattern of shards: * and ? stand for
            characters, {000..127} for numbers, {a,b} for either.
        choose: picks the files of a sample that are read, in the order of the shard; none makes it a bad sample.
        reading: see `ShardReading`.
        Raises: ShardError, ValueError for numbers out of range.
        """
        if seed < 0:
            raise ValueError(f"seed must be at least 0; got {seed}.")
        self._reading = ShardReading(**(reading or {}))
        self._choose = choose
        self.index, shards = _opened(root, self._reading)
        counts = self.index.counts[shards]
        self.order = ShardOrder(self.index.ends[shards] - counts, counts, seed, self._reading.window)
        if not self.order.count:
            raise ShardError(f"{root}: no samples in these shards; name others.")
        self._passes = _SamplePasses(self.index, self.order, self._reading.max_bad)

    def read(self, place: int, use: Callable[[Files], Value]) -> Value:
        """Return `use(files)` of the sample at `place` >= 0, or of the next of its pass that can be used.

        use: raises a ValueError where a sample cannot be used.
        Raises: ShardError if too many samples are bad, or a store cannot be reached.
        """
        return self._passes.use(place, lambda number: self._used(number, use))

    def name(self, place: int) -> str:
        """Name of the sample at `place`, in messages."""
        return self._name(self.order[place])

    def _used(self, number: int, use: Callable[[Files], Value]) -> Value:
        shard, members = self.index.members(number)
        chosen = self._choose(members)
        if not chosen:
            suffixes = ", ".join(member.suffix for member in members)
            raise BadSampleError(f"{self._name(number)}: nothing of use in it, only {suffixes}.")
        start = chosen[0].offset
        data = memoryview(self._fetch(shard, start, chosen[-1].offset + chosen[-1].size))
        files: Files = {}
        for member in chosen:
            content = data[member.offset - start :][: member.size]
            if zlib.crc32(content) != member.crc32:
                raise BadSampleError(
                    f"{self._name(number)}: its bytes are not those of the index; fetch the shard again."
                )
            files[member.suffix] = bytes(content)
        try:
            return use(files)
        except ShardError:
            raise
        except ValueError as error:
            raise BadSampleError(f"{self._name(number)}: {error}") from error

    def _fetch(self, shard: int, start: int, stop: int) -> bytes:
        url = self.index.urls[shard]
        try:
            data = read_part(url, start, stop, self._reading.storage)
        except FileNotFoundError as error:
            raise BadSampleError(
                f"{printable(url)}: no such shard; fetch it, or make the index anew.", shard
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise BadSampleError(f"{printable(url)}: the shard cannot be read ({reason}).", shard) from error
        if len(data) < stop - start:
            raise BadSampleError(f"{printable(url)}: the shard is cut short; fetch it again.", shard)
        if len(data) > stop - start:
            raise ShardError(
                f"{printable(url)}: the server sends whole files instead of parts; use one that knows byte ranges."
            )
        return data

    def _name(self, number: int) -> str:
        shard, members = self.index.members(number)
        url = self.index.urls[shard]
        try:
            header = read_part(url, members[0].offset - tarfile.BLOCKSIZE, members[0].offset, self._reading.storage)
            inner = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        except (OSError, ShardError, tarfile.TarError):
            inner = f"sample {number - int(self.index.ends[shard] - self.index.counts[shard])}"
        return printable(f"{url}: {inner}")


class _SamplePasses(Passes):
    """Flags of samples and of shards say what was found bad by any of the loader processes."""

    def __init__(self, index: ShardIndex, order: ShardOrder, max_bad: float) -> None:
        super().__init__(order.count, "sample", index.url, BadSampleError)
        self._order = order
        self._max_bad = max_bad
        self._bad_samples = shared_flags(len(index))
        self._bad_shards = shared_flags(len(index.urls))

    def number(self, place: int) -> int:
        return self._order[place]

    def skipped(self, number: int, error: ValueError) -> None:
        if self._bad_samples[number]:
            return
        self._bad_samples[number] = True
        bad = int(self._bad_samples.sum())
        shard = error.shard if isinstance(error, BadSampleError) else None
        if shard is None or not self._bad_shards[shard]:
            logger.warning("Skipped sample %d of %d: %s", bad, self._count, printable(str(error)))
        if shard is not None:
            self._bad_shards[shard] = True
        if bad > self._max_bad * self._count:
            raise ShardError(
                f"{self._origin}: {bad} of {self._count} samples cannot be used, more than the share reading.max_bad="
                f"{self._max_bad}; repair the shards (the log names them), or allow more."
            )


def _opened(root: str, reading: ShardReading) -> tuple[ShardIndex, np.ndarray]:
    """The index that belongs to `root`, and the numbers of the shards that `root` names."""
    patterns = [root] if _PATTERN & set(root) or root.endswith(".tar") else []
    if patterns or root.endswith(".safetensors"):
        beside = root if not patterns else joined(root, INDEX_NAME)
    else:
        beside = f"{root.rstrip('/')}/{INDEX_NAME}"
    index = ShardIndex(reading.index or beside, reading.storage)
    if not patterns:
        return index, np.arange(len(index.urls))
    from braceexpand import braceexpand

    chosen: set[int] = set()
    for pattern in braceexpand(root):
        found = [k for k, url in enumerate(index.urls) if fnmatchcase(url, pattern)]
        if not found:
            raise ShardError(f"{index.url}: no shard {pattern}; name others, or make the index anew.")
        chosen.update(found)
    return index, np.array(sorted(chosen))
