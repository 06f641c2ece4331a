"""What every source of training crops offers, and mixtures of sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

_BLOCK = 100  # a mixture's weights are exact over every block of this many samples


class CropSource(Protocol):
    """An endless stream of square crops: sample `index` is a pure function of the source's seed and `index`."""

    def sample(self, index: int) -> Tensor:
        """Return crop number `index` >= 0: uint8 (3, crop_size, crop_size), RGB; of clips (frames, 3, ...)."""
        ...


def follow(source: CropSource, indices: Iterable[int]) -> None:
    """Tell the source which samples will be asked for next, in this order, if it has a `follow(indices)` of its own.

    indices: may be endless, and is iterated over as often as needed.
    """
    own = getattr(source, "follow", None)
    if callable(own):
        own(indices)


def check_ranks(source: CropSource, ranks: int) -> None:
    """Raise ValueError if a source that knows its `samples_per_pass` has fewer than there are ranks."""
    for inner in getattr(source, "sources", [source]):
        count = getattr(inner, "samples_per_pass", ranks)
        if count < ranks:
            raise ValueError(f"{count} training samples are too few for {ranks} processes; use fewer, or other data.")


def name_of(source: CropSource, index: int) -> str:
    """What crop number `index` was cut from, for messages: the source's `name(index)` if it has one."""
    name = getattr(source, "name", None)
    return str(name(index)) if callable(name) else f"{type(source).__name__} sample {index}"


# called with crop_size=..., seed=..., of clips also frames=...
SourceFactory = Callable[..., CropSource]


def sample_generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """Return the random generator of (seed, purpose, index); seed and index >= 0.

    The purpose keeps the streams of different sources under one seed apart.
    """
    return np.random.default_rng((seed, int.from_bytes(purpose.encode(), "big"), index))


class MixedCrops:
    """Several sources in given proportions.

    Every block of 100 consecutive samples holds the sources in the proportion of the weights, in random order; each
    source is read in its own order without gaps, so that a folder is still passed through completely.
    """

    def __init__(
        self,
        sources: Sequence[SourceFactory],
        weights: Sequence[float],
        crop_size: int,
        seed: int,
        frames: int | None = None,
    ) -> None:
        """Build the sources.

        sources: factories called with `crop_size`, `seed` and, for clips, `frames`; weights: positive, in any unit.
        Raises: ValueError if the counts differ or a weight is not positive or below one per cent of the sum.
        """
        if len(sources) != len(weights) or not sources:
            raise ValueError(
                f"A mixture needs one weight a source; got {len(sources)} sources, {len(weights)} weights."
            )
        length = {} if frames is None else {"frames": frames}
        self.sources = [source(crop_size=crop_size, seed=seed, **length) for source in sources]
        self.seed = seed
        counts = _block_counts([float(w) for w in weights])
        self._counts = counts
        self._slots = np.repeat(np.arange(len(counts)), counts)

    def sample(self, index: int) -> Tensor:
        """Return crop number `index`: uint8 (3, crop_size, crop_size); of clips (frames, 3, ...)."""
        source, inner = self._which(index)
        return source.sample(inner)

    def name(self, index: int) -> str:
        """What crop number `index` was cut from."""
        return name_of(*self._which(index))

    def follow(self, indices: Iterable[int]) -> None:
        """Tell each source which of its samples will be asked for."""
        for source in self.sources:
            follow(source, _Share(self, source, indices))

    def _which(self, index: int) -> tuple[CropSource, int]:
        block, position = divmod(index, _BLOCK)
        order = sample_generator(self.seed, "mixed", block).permutation(self._slots)
        chosen = int(order[position])
        earlier = int(np.count_nonzero(order[:position] == chosen))
        return self.sources[chosen], block * self._counts[chosen] + earlier


class _Share:
    """Those of the `indices` of a mixture that one source gets, as its own."""

    def __init__(self, mixture: MixedCrops, source: CropSource, indices: Iterable[int]) -> None:
        self._mixture = mixture
        self._source = source
        self._indices = indices

    def __iter__(self) -> Iterator[int]:
        for source, inner in map(self._mixture._which, self._indices):
            if source is self._source:
                yield inner


def _block_counts(weights: list[float]) -> list[int]:
    """Share the block out by largest remainder."""
    if any(not w > 0 for w in weights) or any(w / sum(weights) < 1 / _BLOCK for w in weights):
        raise ValueError(f"Mixture weights must be positive and at least 1% of their sum; got {weights}.")
    exact = np.array(weights) / sum(weights) * _BLOCK
    counts = np.floor(exact).astype(int)
    for k in np.argsort(counts - exact, kind="stable")[: _BLOCK - int(counts.sum())]:
        counts[k] += 1
    return [int(c) for c in counts]
