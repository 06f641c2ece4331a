"""Encoder and decoder in bounded memory: layer by layer in stripes of rows, with the same results.

One map is stored in full, and beside it what a residual block adds to it. Everything else exists a few rows at a time:
convolutions see the rows above and below (the halo), group normalisation takes its moments from the stored map first,
attention goes from one row of windows to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.autoencoder.networks import Decoder, Downsample, Encoder, ResBlock, Upsample
from glc_train.layers import ChannelNorm, GroupNorm, SpatialAttention, convolve, swish
from glc_train.memory import give_back
from glc_train.pixels import signed

STRIPE_BYTES = 16 << 20
"""About how much of a map is computed together."""

_GIVEN_BACK = 4  # stripes whose memory the system gets together: it takes milliseconds, and to have it again too

Prepare = Callable[[int, int], Tensor]
"""Rows first to last (exclusive) of what a convolution sees."""
Write = Callable[[int, int, Tensor], None]
"""Takes rows first to last (exclusive) of a result."""


@torch.no_grad()
def encode_in_stripes(encoder: Encoder, x: Tensor, window: int | None, stripe: int = STRIPE_BYTES) -> Tensor:
    """`encoder(x, window)` for a picture x (1, 3, H, W), as of `run_encoder`.

    `stripe`: bytes of a map that are computed together.
    """
    first, body, (norm, _, last) = encoder.blocks[0], encoder.blocks[1:-3], encoder.blocks[-3:]
    patch = encoder.unshuffle.downscale_factor
    height, width = x.shape[-2] // patch, x.shape[-1] // patch

    def patches(top: int, bottom: int) -> Tensor:
        return _channels_last(encoder.unshuffle(signed(x[..., top * patch : bottom * patch, :])))

    maps = [_convolved(first, height, width, patches, stripe)]
    _run(maps, body, window, stripe)
    return _finish(maps, norm, last, encoder.quant_conv, stripe)


@torch.no_grad()
def decode_in_stripes(decoder: Decoder, latent: Tensor, window: int | None, stripe: int = STRIPE_BYTES) -> Tensor:
    """`decoder(latent, window)` for a latent (1, N, h, w); `stripe` as of `encode_in_stripes`."""
    first, body, (norm, _, last) = decoder.blocks[0], decoder.blocks[1:-3], decoder.blocks[-3:]
    height, width = latent.shape[-2:]
    start = _rows_of(decoder.post_quant_conv(_channels_last(latent)))
    maps = [_convolved(first, height, width, start, stripe)]
    del start
    _run(maps, body, window, stripe)
    return _finish(maps, norm, last, decoder.shuffle, stripe)


def _run(maps: list[Tensor], blocks: Iterable[nn.Module], window: int | None, stripe: int) -> None:
    """Runs blocks on the only map in `maps`, a list so that nobody else holds the map when its successor is made."""
    todo = list(blocks)
    for block, following in zip(todo, [*todo[1:], None], strict=True):
        if isinstance(block, ResBlock):
            in_halves = len(maps) == 2
            maps[:] = [_narrowed(block, maps, stripe) if in_halves else _res_block(block, maps.pop(), stripe)]
        elif isinstance(block, SpatialAttention):
            _attend(block, maps[0], window)
        else:
            assert isinstance(block, Downsample | Upsample)
            maps[:] = _resampled(block, maps, stripe, halves(following))


def _res_block(block: ResBlock, x: Tensor, stripe: int) -> Tensor:
    """Overwrites x where it has the block's output channels."""
    height, width = x.shape[-2:]
    inner = _convolved(block.conv1, height, width, _activated(block.norm1, x), stripe)
    if isinstance(block.conv_out, nn.Identity):

        def add(top: int, bottom: int, rows: Tensor) -> None:
            x[..., top:bottom, :].add_(rows)

        _convolve(block.conv2, height, width, _activated(block.norm2, inner), add, stripe)
        return x

    behind = _Behind(inner)

    def replace(top: int, bottom: int, rows: Tensor) -> None:
        behind.write(top, bottom, rows.add_(block.conv_out(x[..., top:bottom, :])))

    _convolve(block.conv2, height, width, _activated(block.norm2, inner), replace, stripe)
    behind.finish()
    return inner


def halves(block: nn.Module | None) -> bool:
    """Whether the block takes its input as two maps of half the channels, which its skip and inner map overwrite."""
    return isinstance(block, ResBlock) and block.conv1.in_channels == 2 * block.conv1.out_channels


def _narrowed(block: ResBlock, maps: list[Tensor], stripe: int) -> Tensor:
    """As `_res_block` where `halves`: overwrites both maps and needs no other."""
    left, right = maps
    height, width = left.shape[-2:]
    norm = block.norm1
    assert isinstance(norm, GroupNorm | ChannelNorm)
    moments = norm.moments(left, right)

    def both(top: int, bottom: int) -> Tensor:
        return torch.cat([left[..., top:bottom, :], right[..., top:bottom, :]], 1)

    def prepare(top: int, bottom: int) -> Tensor:
        return swish(norm.normalise(both(top, bottom), moments))

    skip, inner = _Behind(left), _Behind(right)

    def replace(top: int, bottom: int, rows: Tensor) -> None:
        skip.write(top, bottom, block.conv_out(both(top, bottom)))
        inner.write(top, bottom, rows)

    _convolve(block.conv1, height, width, prepare, replace, stripe)
    skip.finish()
    inner.finish()

    def add(top: int, bottom: int, rows: Tensor) -> None:
        left[..., top:bottom, :].add_(rows)

    _convolve(block.conv2, height, width, _activated(block.norm2, right), add, stripe)
    return left


class _Behind:
    """Overwrites a map that is still read: the last row written so far waits, since the next rows look at it."""

    def __init__(self, target: Tensor) -> None:
        self.target = target
        self.waiting: Tensor | None = None
        self.row = 0

    def write(self, top: int, bottom: int, rows: Tensor) -> None:
        self.finish()
        self.target[..., top : bottom - 1, :] = rows[..., :-1, :]
        self.waiting, self.row = rows[..., -1:, :].clone(), bottom - 1

    def finish(self) -> None:
        if self.waiting is not None:
            self.target[..., self.row : self.row + 1, :] = self.waiting


def _attend(block: SpatialAttention, x: Tensor, window: int | None) -> None:
    """Overwrites x, one row of windows after the other."""
    height = x.shape[-2]
    assert isinstance(block.norm, GroupNorm | ChannelNorm)
    moments = block.norm.moments(x)
    for top in range(0, height, window or height):
        rows = x[..., top : top + (window or height), :]
        rows.add_(block.attend(block.norm.normalise(rows, moments), window))


def goes_as_it_grows(block: Downsample | Upsample, device: torch.device) -> bool:
    """Whether the block's input is freed while its output is written: a processor's memory is taken page by page."""
    return isinstance(block, Upsample) and device.type == "cpu"


def _resampled(block: Downsample | Upsample, maps: list[Tensor], stripe: int, in_halves: bool) -> list[Tensor]:
    """The map that the block makes of the only one in `maps`, or two of half its channels."""
    x = maps.pop()
    height, width = x.shape[-2:]
    halving = isinstance(block, Downsample)
    out_height = height // 2 if halving else 2 * height
    out: list[Tensor] = []
    cuts = _cuts(height, x.shape[1] * width * (1 if halving else 4), stripe)
    goes = goes_as_it_grows(block, x.device)
    firsts = [top if halving else max(top - 1, 0) for top, _ in cuts]
    rows = (x[..., first : min(bottom + 1, height), :] for first, (_, bottom) in zip(firsts, cuts, strict=True))
    seen = deque(part.clone() if goes else part for part in rows)
    del x, rows
    for number, (first, (top, bottom)) in enumerate(zip(firsts, cuts, strict=True)):
        part = block(seen.popleft())
        if goes and number % _GIVEN_BACK == _GIVEN_BACK - 1:
            give_back()
        if halving:
            begin, end, part = top // 2, bottom // 2, part[..., : (bottom - top) // 2, :]
        else:
            begin, end, part = 2 * top, 2 * bottom, part[..., 2 * (top - first) : 2 * (bottom - first), :]
        pieces = part.chunk(1 + in_halves, 1)
        out = out or [_empty(piece, out_height) for piece in pieces]
        for target, piece in zip(out, pieces, strict=True):
            target[..., begin:end, :] = piece
    return out


def _finish(maps: list[Tensor], norm: nn.Module, last: nn.Module, then: nn.Module, stripe: int) -> Tensor:
    """`then` of the convolution of the activated map, as a contiguous map."""
    x = maps.pop()
    height, width = x.shape[-2:]
    out: list[Tensor] = []

    def keep(top: int, bottom: int, rows: Tensor) -> None:
        made = then(rows)
        times = made.shape[-2] // (bottom - top)
        if not out:
            out.append(made.new_empty(1, made.shape[1], times * height, made.shape[-1]))
        out[0][..., times * top : times * bottom, :] = made

    _convolve(last, height, width, _activated(norm, x), keep, stripe)
    return out[0]


def _activated(norm: nn.Module, x: Tensor) -> Prepare:
    assert isinstance(norm, GroupNorm | ChannelNorm)
    moments = norm.moments(x)
    return lambda top, bottom: swish(norm.normalise(x[..., top:bottom, :], moments))


def _convolved(conv: nn.Module, height: int, width: int, prepare: Prepare, stripe: int) -> Tensor:
    """The whole map that the convolution gives."""
    out: list[Tensor] = []

    def keep(top: int, bottom: int, rows: Tensor) -> None:
        if not out:
            out.append(_empty(rows, height))
        out[0][..., top:bottom, :] = rows

    _convolve(conv, height, width, prepare, keep, stripe)
    return out[0]


def _convolve(conv: nn.Module, height: int, width: int, prepare: Prepare, write: Write, stripe: int) -> None:
    """A 3×3 convolution, stripe by stripe."""
    assert isinstance(conv, nn.Conv2d)
    cuts = _cuts(height, max(conv.in_channels, conv.out_channels) * width, stripe)
    if len(cuts) > _GIVEN_BACK and conv.weight.device.type == "cpu":
        give_back()  # of the stripes before: they leave hundreds of megabytes
    for top, bottom in cuts:
        first, last = max(top - 1, 0), min(bottom + 1, height)
        part = prepare(first, last)
        if top == first or bottom == last:
            part = F.pad(part, (0, 0, int(top == first), int(bottom == last)))
        write(top, bottom, convolve(conv, part, padding=(0, 1)))


def _cuts(height: int, row: int, stripe: int) -> list[tuple[int, int]]:
    """Stripes of rows of `row` numbers each: even in height, equally high but for the last."""
    count = -(-height // max(4, stripe // (4 * row)))
    rows = -(-height // count)
    rows += rows % 2
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def _rows_of(x: Tensor) -> Prepare:
    return lambda top, bottom: x[..., top:bottom, :]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _empty(rows: Tensor, height: int) -> Tensor:
    """A map of `height` rows like these."""
    size = (1, rows.shape[1], height, rows.shape[-1])
    return torch.empty(size, dtype=rows.dtype, device=rows.device, memory_format=torch.channels_last)
