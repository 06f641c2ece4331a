"""Networks in arithmetic that gives the same bits on every machine.

Encoder and decoder must agree on every parameter of the entropy coder. Floating-point convolutions do not guarantee
that: the order of their sums depends on the batch, the threads, the library and the processor. Here activations and
weights are rounded to binary grids so coarse that every partial sum of a convolution fits the 53 bits of a float64;
such sums are exact, so their order does not matter. What remains is element-wise: additions, products and comparisons,
which IEEE 754 defines. It does not define exponentials, and a fused product and sum (`lerp`, `addcmul`) rounds once on
one machine and twice on another; a test lists the operations that may occur.
"""

import copy
import math
from decimal import Context, Decimal
from functools import cache

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


@cache
def _sigmoid_edges() -> tuple[float, ...]:
    """Where the sigmoid is (k - 1/2) / 2^12, for k from 1 to 2^12: ln((2k - 1) / (2^13 + 1 - 2k)), ascending."""
    context, whole = Context(prec=34), 2 ** (FRACTION_BITS + 1)
    # `decimal` rounds quotients and logarithms right, so that they are the same everywhere.
    odds = (context.divide(Decimal(whole - odd), Decimal(odd)) for odd in range(1, whole // 2, 2))
    above = [float(context.ln(value)) for value in odds]  # k from 2^12 down to the middle
    return (*(-edge for edge in above), *reversed(above))


class ExactSigmoid(nn.Module):
    """The sigmoid rounded to multiples of 2^-12, by comparison alone; float64 in, float64 out, any shape."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("edges", torch.tensor(_sigmoid_edges(), dtype=torch.float64, device=device))

    edges: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.bucketize(x.contiguous(), self.edges, right=True).double() / 2**FRACTION_BITS


_EXACT_ALREADY = (nn.Identity, nn.LeakyReLU, nn.PixelShuffle, nn.Sequential, nn.ModuleList)


def _made_exact(module: nn.Module, device: torch.device) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        return ExactConv2d(module)
    if isinstance(module, nn.Sigmoid):
        return ExactSigmoid(device)
    children = list(module.named_children())
    if not children and not isinstance(module, _EXACT_ALREADY):
        raise ValueError(f"no exact form of {module}")
    for name, child in children:
        setattr(module, name, _made_exact(child, device))
    return module


def exact_copy(module: nn.Module) -> nn.Module:
    """A float64 copy of `module` whose convolutions sum exactly; for inference. The original is not changed.

    What `module` computes itself, beside its children, must be additions, products, comparisons or moves.

    Raises:
        ValueError: a layer has no exact form.
    """
    clone = copy.deepcopy(module).eval().requires_grad_(False)
    device = torch.device("cpu")
    for parameter in clone.parameters():
        device = parameter.device
        # A process may take subnormal numbers for zero (`torch.set_flush_denormal`): so they are zero in all.
        parameter.masked_fill_(parameter.abs() < torch.finfo(torch.float32).tiny, 0.0)
    return _made_exact(clone.double(), device)
