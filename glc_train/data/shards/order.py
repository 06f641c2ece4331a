"""The order in which samples of shards are shown: one sequence without end, a function of the seed."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glc_train.data.source import sample_generator


class _Pass(NamedTuple):
    """shards: in order of their windows. ends: number of samples up to and with each window."""

    shards: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


class ShardOrder:
    """Endless passes over all samples, each pass in an order of its own.

    A pass goes through the shards in random order, `window` of them at a time, whose samples come in random order.
    Which sample a place has is found without those before it.
    """

    def __init__(self, first: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], seed: int, window: int) -> None:
        """Order the samples first[k] to first[k] + counts[k] - 1 of each shard k."""
        self.count = int(counts.sum())
        self._first = first
        self._counts = counts
        self._seed = seed
        self._size = window
        self._windows = -(-len(counts) // window)  # of a pass
        self._pass = lru_cache(2)(self._draw_pass)
        self._window = lru_cache(4)(self._draw_window)  # readers ahead are in the next one

    def __getitem__(self, place: int) -> int:
        """Return the number of the sample at `place` >= 0."""
        lap, position = divmod(place, self.count)
        ends = self._pass(lap).ends
        window = int(np.searchsorted(ends, position, side="right"))
        return int(self._window(lap, window)[position - (ends[window - 1] if window else 0)])

    def __reduce__(self) -> tuple[type[ShardOrder], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int, int]]:
        """Pickle without what was drawn."""
        return ShardOrder, (self._first, self._counts, self._seed, self._size)

    def _draw_pass(self, lap: int) -> _Pass:
        shards = sample_generator(self._seed, "shard pass", lap).permutation(len(self._counts))
        last = np.minimum(np.arange(1, self._windows + 1) * self._size, len(shards)) - 1
        return _Pass(shards, np.cumsum(self._counts[shards])[last])

    def _draw_window(self, lap: int, window: int) -> npt.NDArray[np.int64]:
        shards = self._pass(lap).shards[window * self._size : (window + 1) * self._size]
        numbers = [np.arange(self._first[k], self._first[k] + self._counts[k]) for k in shards]
        random = sample_generator(self._seed, "shard window", lap * self._windows + window)
        return random.permutation(np.concatenate(numbers))
