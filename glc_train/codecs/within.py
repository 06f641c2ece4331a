"""A picture in as many bytes as there may be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from glc_train.codecs.image import CompressResult, ImageCodec

if TYPE_CHECKING:
    from glc_train.effort import Refiner

_CLOSE = 0.998  # part of the bits of y that there may be that a refined picture aims at: the estimate is not exact
_TRIES = 2  # refined files that turn out too large by a few bytes: about one in eight at the first try


def compress_within(
    codec: ImageCodec, picture: np.ndarray, most: float, effort: Refiner | int | None = None
) -> tuple[int, CompressResult]:
    """The largest file of at most so many bytes; with effort, one that is refined up to them.

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
    bits, start = _CLOSE * (8 * (most - len(plain.data)) + plain.estimated_bits_y), time.monotonic()
    for _ in range(_TRIES):
        left = None if refiner.seconds is None else refiner.seconds - (time.monotonic() - start)
        if left is not None and left <= 0:
            break
        growth = bits / plain.estimated_bits_y
        refined = codec.compress_with_report(picture, quality, replace(refiner, growth=growth, seconds=left))
        if len(refined.data) <= most:
            return quality, refined
        bits = _CLOSE * (bits - 8 * (len(refined.data) - most))
    return quality, plain


def largest_within(sizes: Sequence[int], most: float) -> int:
    """Index of the largest of the sizes that are at most `most`; of the smallest of all, where none is."""
    fitting = [index for index, size in enumerate(sizes) if size <= most]
    return max(fitting, key=lambda i: sizes[i]) if fitting else min(range(len(sizes)), key=lambda i: sizes[i])
