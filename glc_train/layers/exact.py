"""Networks in arithmetic that gives the same bits on every machine.

Encoder and decoder must agree on every parameter of the entropy coder. Floating-point convolutions do not guarantee
that: the order of their sums depends on the batch, the threads, the library and the processor. Here activations and
weights are rounded to binary grids so coarse that every partial sum of a convolution fits the 53 bits of a float64;
such sums are exact, so their order does not matter. What remains is element-wise, and IEEE 754 defines it.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FRACTION_BITS = 12  # activations are multiples of 2^-12 ...
MAGNITUDE_BITS = 11  # ... and are clamped to ±2^11
WEIGHT_BITS = 16  # the largest weight of a layer uses 16 bits
_LIMIT = 2.0**53


def snap(x: Tensor) -> Tensor:
    """Rounds to multiples of 2^-12 and clamps to ±2^11; float64 in, float64 out, any shape."""
    return (x * 2.0**FRACTION_BITS).round().div(2.0**FRACTION_BITS).clamp(-(2.0**MAGNITUDE_BITS), 2.0**MAGNITUDE_BITS)


def _snap_weight(weight: Tensor) -> Tensor:
    weight = weight.detach().double()
    largest = float(weight.abs().max())
    if largest == 0.0:
        return weight
    exponent = math.frexp(largest)[1]
    unit = 2.0 ** (exponent - WEIGHT_BITS)
    snapped = (weight / unit).round()
    bound = float(snapped.abs().flatten(1).sum(1).max()) * 2.0 ** (FRACTION_BITS + MAGNITUDE_BITS)
    if bound >= _LIMIT:
        raise ValueError(f"a layer with weights {tuple(weight.shape)} is too wide for exact sums in 53 bits")
    return snapped * unit


class ExactConv2d(nn.Module):
    """`nn.Conv2d` (dense or depth-wise, stride 1 or more) with exact sums: (B, in, h, w) → (B, out, h', w') float64."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if conv.groups not in (1, conv.in_channels) or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
            raise ValueError(f"no exact form of {conv}")
        self.depthwise = conv.groups > 1
        self.stride = int(conv.stride[0])
        self.padding = int(conv.padding[0])
        self.register_buffer("weight", _snap_weight(conv.weight))
        bias = conv.bias
        self.register_buffer("bias", None if bias is None else bias.detach().double())

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        x = snap(x)
        kernel, stride = self.weight.shape[-1], self.stride
        if self.padding:
            x = F.pad(x, (self.padding,) * 4)
        height = (x.shape[-2] - kernel) // stride + 1
        width = (x.shape[-1] - kernel) // stride + 1
        out: Tensor | None = None
        for i in range(kernel):
            for j in range(kernel):
                part = x[..., i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
                tap = self.weight[:, :, i, j]
                if self.depthwise:
                    term = part * tap.view(1, -1, 1, 1)
                else:
                    term = torch.matmul(tap, part.flatten(2)).unflatten(2, (height, width))
                out = term if out is None else out.add_(term)
        assert out is not None
        return out if self.bias is None else out + self.bias.view(1, -1, 1, 1)


def exact_copy(module: nn.Module) -> nn.Module:
    """A float64 copy of `module` whose convolutions sum exactly; for inference. The original is not changed.

    Raises:
        ValueError: a layer has no exact form.
    """
    clone = copy.deepcopy(module).double().eval().requires_grad_(False)
    if isinstance(clone, nn.Conv2d):
        return ExactConv2d(clone)
    for parent in list(clone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, ExactConv2d(child))
            elif isinstance(child, nn.Linear | nn.GroupNorm | nn.LayerNorm | nn.BatchNorm2d):
                raise ValueError(f"no exact form of {child}")
    return clone
