"""What is refined: y of a picture or of a conditional frame, and how it becomes pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from glc_train.transform import FrameContext, ImageTransform, PriorParameters, SymbolStep, VideoTransform

Part = tuple[slice, slice]
"""Rows and columns of a map."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A picture or frame.

    Attributes:
        x: the padded picture (1, 3, H, W) in [-1, 1].
        y: (1, C, h, w), of the encoder.
        prior: parameters of pass 0.
        decode_y: runs the passes.
        decode: y_hat of a part, and the part → x_hat of it, about [-1, 1].
        rdoq: λ of `choose_symbols` without any effort.
        multiple: parts begin at multiples of this.
    """

    x: Tensor
    y: Tensor
    prior: PriorParameters
    decode_y: Callable[[PriorParameters, SymbolStep], Tensor]
    decode: Callable[[Tensor, Part], Tensor]
    rdoq: float
    multiple: int


class _Pictures(Protocol):
    transform: ImageTransform

    def decode_latent(self, latent: Tensor) -> Tensor: ...


class _Frames(Protocol):
    transform: VideoTransform

    def decode_latent(self, latent: Tensor) -> Tensor: ...


def of_picture(codec: _Pictures, x: Tensor, y: Tensor, z_hat: Tensor, quality: Tensor) -> Target:
    """A picture of its own.

    Args:
        codec: with the picture's transform and decoder.
        x, y: as of `Target`.
        z_hat: (1, Cz, h/4, w/4), as a decoder will have it.
        quality: (1,) int64.
    """
    transform, decoder = codec.transform, codec.transform.decoder
    with torch.inference_mode(False), torch.no_grad():
        x, y, z_hat, quality = (each.clone() for each in (x, y, z_hat, quality))
        prior = decoder.parameters_of(z_hat.float())
    return Target(
        x=x,
        y=y,
        prior=prior,
        decode_y=decoder.decode_y,
        decode=lambda y_hat, _: codec.decode_latent(decoder(y_hat, quality)),
        rdoq=transform.rdoq[int(quality)],
        multiple=transform.hyper_factor,
    )


def of_frame(codec: _Frames, x: Tensor, y: Tensor, z_hat: Tensor, given: FrameContext, quality: Tensor) -> Target:
    """A frame that is coded given the one before.

    Args:
        codec, x, y, quality: as of `of_picture`.
        z_hat: (1, Cz, K, 1), as a decoder will have it.
        given: what the frame before says.
    """
    decoder = codec.transform.decoder
    with torch.inference_mode(False), torch.no_grad():
        x, y, z_hat, quality = (each.clone() for each in (x, y, z_hat, quality))
        given = _each_map(given, Tensor.clone)
        prior = decoder.parameters_of(z_hat.float(), given)

    def decode(y_hat: Tensor, part: Part) -> Tensor:
        there = _each_map(given, lambda each: each[..., part[0], part[1]])
        return codec.decode_latent(decoder(y_hat, there, quality))

    return Target(x=x, y=y, prior=prior, decode_y=decoder.decode_y, decode=decode, rdoq=0.0, multiple=2)


def _each_map(given: FrameContext, change: Callable[[Tensor], Tensor]) -> FrameContext:
    return FrameContext(change(given.context), change(given.temporal), change(given.weight_map), chained=given.chained)


@dataclass(frozen=True)
class Window:
    """A part that is refined at a time, of which the inner part is kept."""

    outer: Part
    inner: Part


def windows(height: int, width: int, side: int, overlap: int, multiple: int) -> Iterator[Window]:
    """Cuts a map of height × width into windows of at most about `side`, that reach `overlap` into their neighbours.

    All cuts lie on multiples of `multiple`.
    """

    def cuts(length: int) -> list[tuple[slice, slice]]:
        parts = max(1, -(-length // side))
        edges = [round(length * k / parts / multiple) * multiple for k in range(parts)] + [length]
        return [(slice(max(0, a - overlap), min(length, b + overlap)), slice(a, b)) for a, b in pairwise(edges)]

    for row in cuts(height):
        for column in cuts(width):
            yield Window((row[0], column[0]), (row[1], column[1]))


def scaled(part: slice, factor: int) -> slice:
    """The part of a map that is `factor` times as large."""
    return slice(part.start * factor, part.stop * factor)


def within(part: slice, whole: slice) -> slice:
    """The part counted from where `whole` begins."""
    return slice(part.start - whole.start, part.stop - whole.start)
