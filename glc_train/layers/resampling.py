"""Halving and doubling a map by 3×3 convolutions, in the cheaper order where no gradient is recorded."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import fused
from glc_train.layers.convolution import computing_type, weights_for, with_bias
from glc_train.layers.prepared import prepared


def halve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv` (3×3, stride 2, no padding) of x (B, C, h, w) with a zero row and column at the bottom and right.

    Without gradients, x is not copied: padding by two on every side gives the same and more rows and columns.
    """
    if torch.is_grad_enabled():
        out: Tensor = conv(F.pad(x, (0, 1, 0, 1)))
        return out
    weight, bias = weights_for(conv, x)
    wide = F.conv2d(x, weight, bias, stride=2, padding=2)
    rows, columns = (slice(1, 1 + side // 2) for side in x.shape[-2:])
    return wide[..., rows, columns].contiguous(memory_format=_memory_format(wide))


def upsample(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv` (3×3, padding 1) of x (B, C, h, w) doubled by nearest neighbour: (B, out, 2h, 2w).

    Without gradients, as a transposed convolution of x, with 2.25 times fewer multiplications.
    """
    if torch.is_grad_enabled():
        out: Tensor = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
    dtype = computing_type(x)

    def fold() -> tuple[Tensor, Tensor | None]:
        bias = None if conv.bias is None else conv.bias.to(dtype)
        return _folded(conv.weight).to(dtype, memory_format=_memory_format(x)), bias

    weight, bias = prepared(conv, ("folded", dtype, _memory_format(x)), fold)
    if fused.fits(x):
        return with_bias(F.conv_transpose2d(x, weight, stride=2, padding=1), bias)
    return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)


def folded_bytes(conv: nn.Conv2d, size: int) -> int:
    """What may be kept of the layer of `upsample`, in numbers of `size` bytes."""
    return size * (16 * conv.in_channels + 1) * conv.out_channels


def _folded(weight: Tensor) -> Tensor:
    """Weights (out, in, 3, 3) of a convolution after doubling → (in, out, 4, 4) of the transposed one, stride 2.

    Every output sees two of the input's rows and columns: taps that fall on the same one are added up.
    """
    taps = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    both = torch.kron(taps, taps)  # (16, 9)
    out, into = weight.shape[:2]
    with torch.autocast(weight.device.type, enabled=False):  # not rounded before they are added
        return (weight.reshape(-1, 9) @ both.t()).view(out, into, 4, 4).transpose(0, 1)


def _memory_format(x: Tensor) -> torch.memory_format:
    """That of x (B, C, h, w)."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
