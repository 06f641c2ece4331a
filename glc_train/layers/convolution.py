"""3×3 and 1×1 convolutions that take the fastest way, 3×3 ones in training too."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import fused, winograd, winograd_training
from glc_train.layers.prepared import prepared

_LEAST_PLACES = 256  # of a map: fewer make slow matrix products
_MOST_PLACES = 8192  # in larger ones the products take 15 times as long as to transform the weights: not kept


class Conv3x3(nn.Conv2d):
    """3×3 convolution with bias and "same" zero padding: see `convolve` and `convolve_batch`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return convolve_batch(self, x) if torch.is_grad_enabled() else convolve(self, x)


class Conv1x1(nn.Conv2d):
    """Point-wise convolution with bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *weights_for(self, x))


def convolve(conv: nn.Conv2d, x: Tensor, padding: tuple[int, int] = (1, 1)) -> Tensor:
    """`conv` (3×3, stride 1) of x (B, C, h, w), with zeros above and below, and at both sides: by the faster way.

    Winograd's wins in float32 on Intel's processors: 1.5 to 3 times with AVX2, 1.1 to 2 times with AVX-512, which needs
    more channels. Elsewhere matrix products are slower in comparison.
    """
    places = x.shape[-2] * x.shape[-1]
    if not torch.is_grad_enabled() and _by_winograd(x) and _pays(conv, places):
        if places > _MOST_PLACES:
            weight = winograd.transformed(conv.weight)
        else:
            weight = prepared(conv, "winograd", partial(winograd.transformed, conv.weight))
        return winograd.winograd(x, weight, conv.bias, padding)
    if fused.fits(x):
        return with_bias(unbiased(conv, x, padding), conv.bias)
    weight, bias = weights_for(conv, x)
    return F.conv2d(x, weight, bias, padding=padding)


def unbiased(conv: nn.Conv2d, x: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """`conv` (stride 1) of x (B, C, h, w), channels last, without its bias, which cuDNN adds in a slow pass."""
    return F.conv2d(x, weights_for(conv, x)[0], padding=padding).contiguous(memory_format=torch.channels_last)


def with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """x (B, C, h, w) + bias (C,), in the place of x where the device can."""
    if bias is None:
        return x
    return fused.add(x, bias) if fused.fits(x) else x + bias.to(x.dtype)[:, None, None]


def convolve_batch(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv` of x (B, C, h, w), as training has them, by the faster way; also with gradients.

    Winograd's way wins as in `convolve`, in large batches of small maps too: forward and backward together are 1.6 to 3
    times as fast with AVX2, 1.2 to 1.4 times with AVX-512.
    """
    same = (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    if same and _by_winograd(x) and conv.weight.dtype == x.dtype and winograd_training.pays(conv, x):
        return winograd_training.convolved(x, conv.weight, conv.bias)
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)


def _by_winograd(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.stride(1) == 1  # channels last
    )


def _pays(conv: nn.Conv2d, places: int) -> bool:
    """Whether Winograd's way is faster for a map of so many places: its weights, if they are not kept, take a while."""
    channels = (conv.in_channels, conv.out_channels)
    return min(channels) >= winograd.least_channels() and places >= max(_LEAST_PLACES, math.prod(channels) // 256)


def weights_for(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in the type in which a convolution of x computes; without gradients in its memory format too."""
    dtype = computing_type(x)
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or conv.weight.dtype == dtype:
        return conv.weight, conv.bias
    last = x.is_cuda or x.stride(1) == 1  # cuDNN's kernels of 16 bits take no other
    memory_format = torch.channels_last if last else torch.contiguous_format

    def cast() -> tuple[Tensor, Tensor | None]:
        return conv.weight.to(dtype, memory_format=memory_format), None if conv.bias is None else conv.bias.to(dtype)

    return prepared(conv, (dtype, memory_format), cast)


def computing_type(x: Tensor) -> torch.dtype:
    """That of autocast where it is on, else that of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def prepared_bytes(conv: nn.Conv2d, places: int, size: int) -> int:
    """What may be kept of the layer, as it is used on maps of so many places, in numbers of `size` bytes."""
    if size == 2:
        return 2 * (conv.weight.numel() + conv.out_channels)
    if conv.kernel_size == (3, 3) and conv.stride == (1, 1) and places <= _MOST_PLACES and _pays(conv, places):
        return 4 * 36 * conv.in_channels * conv.out_channels
    return 0
