"""A picture in as many bytes as there may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from glc_train.codecs.image import CompressResult, ImageCodec

if TYPE_CHECKING:
    from glc_train.effort import Refiner

_CLOSE = 0.998  # part of the bits of y that there may be that a refined picture aims at: the estimate is not exact


def compress_within(
    codec: ImageCodec, picture: np.ndarray, most: float, effort: Refiner | int | None = None
) -> tuple[int, CompressResult]:
    """The largest file of at most so many bytes; with effort, one that is refined up to them.

    A refined file may turn out too large by a few bytes (one in eight does), or no better where little is left to grow
    into. While there is time it is then made anew for fewer bits, and at last from the next smaller file.

    Args:
        codec: of whose qualities the fitting one is chosen.
        picture: uint8 (H, W, 3).
        most: bytes.
        effort: as of `ImageCodec.compress`.

    Returns:
        Quality and file; where none is small enough, those of the smallest.

    Raises:
        ValueError, BackboneError: as `ImageCodec.compress`.
    """
    files = [codec.compress_with_report(picture, each, 0) for each in range(codec.quality_levels)]
    quality = largest_within([len(each.data) for each in files], most)
    plain, refiner = files[quality], codec.refiner_of(effort)
    if refiner is None or len(plain.data) > most:
        return quality, plain
    refiner, excess, sizes = refiner.timed(), 0.0, [len(each.data) for each in files]
    smaller = sorted((each for each in range(len(files)) if sizes[each] < sizes[quality]), key=sizes.__getitem__)
    for start in (quality, quality, *smaller[-1:]):
        own = files[start].estimated_bits_y
        growth = (_CLOSE * (8 * (most - sizes[start]) + own) - 8 * excess) / own
        refined = codec.compress_with_report(picture, start, replace(refiner, growth=growth))
        if len(refined.data) <= most and refined.data != files[start].data:
            return start, refined
        if refiner.clock is None or refiner.clock.over():
            break
        excess += max(0.0, len(refined.data) - most)
    return quality, plain


def largest_within(sizes: Sequence[int], most: float) -> int:
    """Index of the largest of the sizes that are at most `most`; of the smallest of all, where none is."""
    fitting = [index for index, size in enumerate(sizes) if size <= most]
    return max(fitting, key=lambda i: sizes[i]) if fitting else min(range(len(sizes)), key=lambda i: sizes[i])
