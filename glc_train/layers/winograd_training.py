"""3×3 convolutions of whole batches by Winograd's minimal filtering, with gradients: see `winograd.py`.

The gradient of the input is such a convolution itself. That of the weights is a sum of products of transformed tiles,
as many as the forward pass has, of the input and of the gradient.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from glc_train.layers import winograd

_TILES = {"AVX2": 48, "AVX512": 192}  # in a batch: fewer make slow matrix products
_CHUNK = 512  # tiles at a time: large enough for the products, small enough for a processor's cache


def pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether `convolved` is faster for a batch x (B, C, h, w): of enough channels and tiles."""
    tiles = len(x) * _up(x.shape[2]) * _up(x.shape[3])
    return min(conv.in_channels, conv.out_channels) >= winograd.least_channels() and tiles >= least_tiles()


def least_tiles() -> int:
    """From how many tiles on it may be faster."""
    return _TILES.get(torch.backends.cpu.get_cpu_capability(), _TILES["AVX512"])


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of x (B, C, h, w) with a weight (out, C, 3, 3), zero padding of 1: (B, out, h, w), channels last.

    It cannot be differentiated twice.
    """
    out: Tensor = _Convolution.apply(x, weight, bias)
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolution(x, _taps(weight).transpose(1, 2), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _convolution(gradient, _taps(weight, turned=True), None) if of_x else None,
            _of_weight(x, gradient, weight) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


def _taps(weight: Tensor, turned: bool = False) -> Tensor:
    """Transformed weights (36, out, C), `turned` by half a turn."""
    _, of_weight, _ = winograd.transforms()
    by_place = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return torch.mm(of_weight.flip(1) if turned else of_weight, by_place).view(36, *weight.shape[:2])


def _convolution(x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """Of x (B, C, h, w) with transformed weights (36, C, out)."""
    of_input, _, of_output = winograd.transforms()
    into, out = taps.shape[1:]
    batch, _, height, width = x.shape
    rows, columns = _up(height), _up(width)
    padded = _padded(x)
    whole = _empty(x, out, 4 * rows, 4 * columns)
    blocks = whole.permute(0, 2, 3, 1)
    for pictures, part in _chunks(batch, rows, columns):
        seen = _tiles(padded, pictures, part, columns)
        products = torch.bmm(torch.mm(of_input, seen).view(36, -1, into), taps)
        made = torch.mm(of_output, products.view(36, -1))
        target = _blocks(blocks, pictures, part)
        made = made.view(target.shape)
        torch.add(made, bias, out=target) if bias is not None else target.copy_(made)
    if whole.shape[2:] == x.shape[2:]:
        return whole
    return _empty(x, out, height, width).copy_(whole[..., :height, :width])


def _of_weight(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the weight, in its memory format."""
    of_input, of_weight, of_output = winograd.transforms()
    out, into = weight.shape[:2]
    batch, _, height, width = x.shape
    rows, columns = _up(height), _up(width)
    padded = _padded(x)
    given = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, 4 * columns - width, 0, 4 * rows - height)).contiguous()
    total = x.new_zeros(36, out, into)
    for pictures, part in _chunks(batch, rows, columns):
        seen = torch.mm(of_input, _tiles(padded, pictures, part, columns)).view(36, -1, into)
        blocks = torch.mm(of_output.t(), _blocks(given, pictures, part).reshape(16, -1)).view(36, -1, out)
        total.baddbmm_(blocks.transpose(1, 2), seen)
    taps = torch.mm(of_weight.t(), total.view(36, -1)).view(3, 3, out, into)
    return torch.empty_like(weight).copy_(taps.permute(2, 3, 0, 1))


def _empty(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """(B, channels, height, width), channels last; no view, as what follows may write into it."""
    return torch.empty(len(x), channels, height, width, dtype=x.dtype, memory_format=torch.channels_last)


def _up(side: int) -> int:
    """Tiles along a side of the map."""
    return -(-side // 4)


def _chunks(batch: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Pictures and rows of tiles that are computed together: some whole pictures, or a part of one."""
    pictures, part = max(1, _CHUNK // (rows * columns)), min(rows, max(1, _CHUNK // columns))
    for first in range(0, batch, pictures):
        for top in range(0, rows, part):
            yield slice(first, min(first + pictures, batch)), slice(top, min(top + part, rows))


def _padded(x: Tensor) -> Tensor:
    """(B, C, h, w) → (B, 4 · rows + 2, 4 · columns + 2, C)."""
    batch, channels, height, width = x.shape
    padded = x.new_zeros(batch, 4 * _up(height) + 2, 4 * _up(width) + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    return padded


def _tiles(padded: Tensor, pictures: slice, rows: slice, columns: int) -> Tensor:
    """Overlapping tiles of 6×6: (36, tiles · C)."""
    picture, row, column, _ = padded.stride()
    size = (6, 6, pictures.stop - pictures.start, rows.stop - rows.start, columns, padded.shape[-1])
    strides = (row, column, picture, 4 * row, 4 * column, 1)
    start = pictures.start * picture + 4 * rows.start * row
    return padded.as_strided(size, strides, start).reshape(36, -1)


def _blocks(x: Tensor, pictures: slice, rows: slice) -> Tensor:
    """Blocks of 4×4 of a map (B, 4 · rows, 4 · columns, C), as a view (4, 4, pictures, rows, columns, C)."""
    part = x[pictures, 4 * rows.start : 4 * rows.stop]
    return part.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).permute(2, 4, 0, 1, 3, 5)
