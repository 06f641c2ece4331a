"""The kernels of `fused`, for Triton. A map is a matrix (places, channels), row by row, for each of a batch."""

# mypy: disable-error-code="no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor


def power_of_two(count: int) -> int:
    """The least that is not below `count`."""
    size: int = triton.next_power_of_2(count)
    return size


@triton.jit
def add_up(x, sums, places, share, parts, channels: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr):
    """Sums (B, parts, 2, C) of each part of `share` places: the mean of a channel, and its squared distances."""
    part, sample = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, wide)
    begin = part * share
    x += sample.to(tl.int64) * places * channels
    totals = tl.zeros((rows, wide), tl.float32)
    squares = tl.zeros((rows, wide), tl.float32)
    for start in range(0, share, rows):
        place = begin + start + tl.arange(0, rows)
        inside = (place < places)[:, None] & (channel < channels)[None, :]
        value = tl.load(x + place.to(tl.int64)[:, None] * channels + channel[None, :], mask=inside, other=0.0)
        value = value.to(tl.float32)
        totals += value
        squares += value * value
    total, square = tl.sum(totals, 0), tl.sum(squares, 0)
    count = tl.minimum(share, places - begin).to(tl.float32)
    mean = total / count
    to = sums + (sample * parts + part) * 2 * channels + channel
    tl.store(to, mean, mask=channel < channels)
    tl.store(to + channels, tl.maximum(square - total * mean, 0.0), mask=channel < channels)


@triton.jit
def line_of_group(
    sums, weight, shift, lacking, line, places, share, parts, channels, eps,
    lacks: tl.constexpr, in_group: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr = 256,
):  # fmt: skip
    """The factor and the summand (B, 2, C) by which one group of channels is normalised."""
    group, sample = tl.program_id(0), tl.program_id(1)
    one = tl.arange(0, wide)
    valid = one < in_group
    channel = group * in_group + one
    of_group = sums + sample * parts * 2 * channels + channel
    # Means first: distances from a channel's own mean are small, and lose no digits.
    total = tl.zeros((wide,), tl.float32)
    for start in range(0, parts, rows):
        part = start + tl.arange(0, rows)
        inside = (part < parts)[:, None] & valid[None, :]
        count = tl.minimum(share, places - part * share).to(tl.float32)
        mean = tl.load(of_group[None, :] + part[:, None] * 2 * channels, mask=inside, other=0.0)
        total += tl.sum(mean * count[:, None], 0)
    centre = total / places
    apart = tl.zeros((wide,), tl.float32)
    for start in range(0, parts, rows):
        part = start + tl.arange(0, rows)
        inside = (part < parts)[:, None] & valid[None, :]
        count = tl.minimum(share, places - part * share).to(tl.float32)
        mean = tl.load(of_group[None, :] + part[:, None] * 2 * channels, mask=inside, other=0.0)
        within = tl.load(of_group[None, :] + (part[:, None] * 2 + 1) * channels, mask=inside, other=0.0)
        distance = mean - centre[None, :]
        apart += tl.sum(tl.where(inside, within + distance * distance * count[:, None], 0.0), 0)
    extra = tl.zeros((wide,), tl.float32)
    if lacks:
        extra = tl.load(lacking + channel, mask=valid, other=0.0).to(tl.float32)
    full = centre + extra
    middle = tl.sum(tl.where(valid, full, 0.0), 0) / in_group
    spread = tl.where(valid, apart / places + (full - middle) * (full - middle), 0.0)
    factor = tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)
    factor = factor / tl.sqrt(tl.sum(spread, 0) / in_group + eps)
    summand = tl.load(shift + channel, mask=valid, other=0.0).to(tl.float32) + (extra - middle) * factor
    to = line + sample * 2 * channels + channel
    tl.store(to, factor, mask=valid)
    tl.store(to + channels, summand, mask=valid)


@triton.jit
def apply_line(
    x, line, out, places, channels: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr, swish: tl.constexpr
):
    """factor · x + summand, then swish."""
    sample = tl.program_id(1)
    channel = tl.arange(0, wide)
    place = tl.program_id(0) * rows + tl.arange(0, rows)
    factor = tl.load(line + sample * 2 * channels + channel, mask=channel < channels, other=0.0)
    summand = tl.load(line + (sample * 2 + 1) * channels + channel, mask=channel < channels, other=0.0)
    inside = (place < places)[:, None] & (channel < channels)[None, :]
    at = (sample.to(tl.int64) * places + place.to(tl.int64))[:, None] * channels + channel[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * factor[None, :] + summand[None, :]
    if swish:
        value = value / (1 + tl.exp(-value))
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def add_in_place(
    x, bias, other, places, channels: tl.constexpr, with_bias: tl.constexpr, with_other: tl.constexpr,
    wide: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """x + bias + other."""
    channel = tl.arange(0, wide)
    place = tl.program_id(0) * rows + tl.arange(0, rows)
    inside = (place < places)[:, None] & (channel < channels)[None, :]
    at = place.to(tl.int64)[:, None] * channels + channel[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if with_bias:
        value += tl.load(bias + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]
    if with_other:
        value += tl.load(other + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + at, value.to(x.dtype.element_ty), mask=inside)


def check(device: str = "cuda") -> None:
    """Runs the smallest kernel.

    Raises:
        RuntimeError: its result is wrong; Triton raises errors of its own.
    """
    x: Tensor = torch.ones(1, 2, 2, 2, device=device).to(torch.bfloat16, memory_format=torch.channels_last)
    add_in_place[(1,)](x, x, x, 4, 2, False, True, 2, 16)
    if not bool((x == 2).all()):
        raise RuntimeError("a kernel computes something else")
