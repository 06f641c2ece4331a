"""Samples of shards by place in one endless order, each read by itself; what cannot be used is replaced."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from glc_train.data.file_passes import Passes, claims, shared_flags
from glc_train.data.shards.addresses import joined
from glc_train.data.shards.errors import BadSampleError, ShardError
from glc_train.data.shards.index import INDEX_NAME, Member, ShardIndex
from glc_train.data.shards.lookahead import Lookahead
from glc_train.data.shards.order import ShardOrder
from glc_train.data.shards.reader import Files, SampleReader, ShardReading
from glc_train.files import printable
from glc_train.media.clip_info import ClipError
from glc_train.media.pictures import PathLike, PictureError

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
_PATTERN = frozenset("*?[{")


class ShardStream:
    """The chosen files of samples, by place in an order that is a function of the seed."""

    def __init__(
        self,
        root: PathLike,
        seed: int,
        choose: Callable[[Sequence[Member]], list[Member]],
        reading: dict[str, Any] | None,
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
        if not isinstance(root, str | os.PathLike):
            raise ShardError(f"root={root}: name one set of shards; several are mixed by `MixedCrops`.")
        try:
            self._reading = ShardReading(**(reading or {}))
        except ValidationError as error:
            wrong = error.errors()[0]
            option = ".".join(map(str, wrong["loc"]))
            raise ShardError(f"reading.{option}={wrong['input']}: {wrong['msg']}.") from error
        index, shards = _opened(os.fspath(root), self._reading)
        counts = index.counts[shards]
        self._order = ShardOrder(index.ends[shards] - counts, counts, seed, self._reading.window)
        if not self._order.count:
            raise ShardError(f"{root}: no samples in these shards; name others.")
        self._reader = SampleReader(index, choose, self._reading)
        self._passes = _SamplePasses(index, self._order, self._reading.max_bad)
        self._ahead: Lookahead[Files] | None = None

    def __len__(self) -> int:
        """Return the number of samples in a pass."""
        return self._order.count

    def read(self, place: int, use: Callable[[Files], Value]) -> Value:
        """Return `use(files)` of the sample at `place` >= 0, or of the next of its pass that can be used.

        use: raises PictureError or ClipError where a sample cannot be used.
        Raises: ShardError if too many samples are bad, or a store cannot be reached.
        """

        def used(number: int) -> Value:
            # a neighbour, in place of a bad one, has not been fetched for this place
            first = self._ahead is not None and number == self._order[place]
            files = self._ahead.take(place) if self._ahead and first else self._reader.files(number)
            try:
                return use(files)
            except (PictureError, ClipError) as error:
                raise BadSampleError(f"{self._reader.name(number)}: {error}") from error

        return self._passes.use(place, used)

    def follow(self, places: Iterable[int]) -> None:
        """Fetch beforehand what will be read at `places`, in this order; nothing more of what was to come before."""
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None
        if not self._reader.is_local:
            self._ahead = Lookahead(
                places,
                lambda place: self._reader.files(self._order[place]),
                lambda place: self._reader.size(self._order[place]),
                self._reading.ahead_mb * 1e6,
                self._reading.connections,
            )

    def name(self, place: int) -> str:
        """Name of the sample at `place`, in messages."""
        return self._reader.name(self._order[place])


class ShardSource:
    """Endless samples from shards (a `CropSource`); a subclass cuts them out of the files of a sample.

    Args:
        stream: of the files.
        seed: of all that is drawn.
    """

    def __init__(self, stream: ShardStream, seed: int) -> None:
        self.seed = seed
        self._stream = stream

    def sample(self, index: int) -> Tensor:
        """Return sample number `index` >= 0, uint8.

        Raises: ShardError if too many samples are bad, or the shards cannot be reached.
        """
        return self._stream.read(index, lambda files: self._cut(files, index))

    def name(self, index: int) -> str:
        """Shard and first file that sample `index` is cut from (or its replacement, if that cannot be used)."""
        return self._stream.name(index)

    def follow(self, indices: Iterable[int]) -> None:
        """Fetch beforehand what the samples `indices` are cut from, in this order."""
        self._stream.follow(indices)

    @property
    def samples_per_pass(self) -> int:
        """Number of samples that the shards hold."""
        return len(self._stream)

    def _cut(self, files: Files, index: int) -> Tensor:
        raise NotImplementedError


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
        shard = error.shard if isinstance(error, BadSampleError) else None
        if shard is None:
            names = claims(self._bad_samples, number)
        else:
            self._bad_samples[number] = 1
            names = claims(self._bad_shards, shard)
        bad = int((self._bad_samples != 0).sum())
        if names:
            logger.warning("Skipped sample %d of %d: %s", bad, self._count, printable(str(error)))
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
