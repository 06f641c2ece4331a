"""Networks in arithmetic that gives the same bits on every machine.

Encoder and decoder must agree on every parameter of the entropy coder. Floating-point convolutions do not guarantee
that: the order of their sums depends on the batch, the threads, the library and the processor. Here activations are
integers of 11 bits times a power of two, and weights integers of 8 bits times a power of two for each output channel;
every partial sum of a product is an integer below 2^24, which float32 holds exactly, so that the order does not matter.
What remains is element-wise: IEEE 754 defines it, one operation at a time. docs/exact-arithmetic.md has the proof.
"""

import copy
import math
from collections.abc import Callable
from decimal import Context, Decimal
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers.blocks import Grid, WeightedMean
from glc_train.layers.exact_products import check_products, exact_product

FRACTION_BITS = 12  # what networks hand on is a multiple of 2^-12 ...
MAGNITUDE_BITS = 11  # ... and is clamped to ±2^11: 24 bits
ACTIVATION_MAX = 1023  # 11 bits with sign: exact in TF32 too
WEIGHT_BITS = 8
SHARE_BITS = 8  # of the weights of a mean
SUM_LIMIT = 2**24
NEGLIGIBLE = 2.0**-24  # smaller parameters count as zero: no result comes near the subnormal numbers
_MOST_EXPONENT = 20
_TOKENS = SUM_LIMIT // (ACTIVATION_MAX << SHARE_BITS)  # of one product: 64


def snap(x: Tensor) -> Tensor:
    """Rounds float32 of any shape to multiples of 2^-12 and clamps it to ±2^11."""
    largest = 2.0 ** (MAGNITUDE_BITS + FRACTION_BITS)
    return x.mul(2.0**FRACTION_BITS).round_().clamp_(-largest, largest).mul_(2.0**-FRACTION_BITS)


class ExactGrid(nn.Module):
    """`Grid` in exact arithmetic: `snap`."""

    def forward(self, x: Tensor) -> Tensor:
        return snap(x)


class Scaled(nn.Module):
    """A layer whose input is rounded to integers times 2^-`exponent`, which `calibrate` finds."""

    exponent: int | None = None
    observing = False

    def integers(self, x: Tensor) -> Tensor:
        """x · 2^exponent, rounded half to even and clamped to ±1023; any shape."""
        if self.observing:
            self._observe(x)
        if self.exponent is None:
            raise RuntimeError("an exact layer is used before it was calibrated")
        return x.mul(2.0**self.exponent).round_().clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)

    def _observe(self, x: Tensor) -> None:
        largest = float(x.abs().max())
        if not math.isfinite(largest):
            raise ValueError("the networks gave values that are no numbers: the weights are damaged or diverged")
        # 2 · largest · 2^exponent < 2^10: other pictures than the one that was seen have larger values
        exponent = 9 - math.frexp(largest)[1] if largest else _MOST_EXPONENT
        exponent = max(-_MOST_EXPONENT, min(exponent, _MOST_EXPONENT))
        self.exponent = exponent if self.exponent is None else min(exponent, self.exponent)


def calibrate(module: nn.Module, run: Callable[[], object]) -> None:
    """Chooses the exponents of all layers of an exact copy such that twice what they see in `run` is not clamped.

    The result is the same on every machine if what `run` feeds is, for each layer rounds by the exponent that it has so
    far.

    Raises:
        ValueError: values are not finite.
        RuntimeError: `run` leaves layers out.
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, Scaled)}
    for layer in layers.values():
        layer.exponent, layer.observing = None, True
    try:
        run()
    finally:
        for layer in layers.values():
            layer.observing = False
    unseen = [name for name, layer in layers.items() if layer.exponent is None]
    if unseen:
        raise RuntimeError(f"the calibration left out {', '.join(unseen)}")


def _depthwise_reach(q: np.ndarray) -> np.ndarray:
    """(C,): what bounds the sums of Winograd's F(2×2, 3×3) for integers (C, 1, 3, 3), over the size of its inputs.

    Some libraries compute 3×3 kernels so, PyTorch on ARM for one. Its transforms halve twice, so they are exact too.
    """
    size = np.abs(q[:, 0])
    whole = size.sum((1, 2))
    reach: np.ndarray = 4 * (size.max((1, 2)) + size.sum(1).max(1) + size.sum(2).max(1) + whole)
    return reach


def _integer_weights(weight: np.ndarray, depthwise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights (O, I, k, k) as integers within ±128 and exponents (O,) of their units."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    exponents = np.frexp(largest)[1] - (WEIGHT_BITS - 1)

    def rounded() -> np.ndarray:
        return np.rint(np.ldexp(weight, -exponents.reshape(-1, 1, 1, 1)))

    if depthwise and weight.shape[-1] == 3:
        exponents = exponents + (_depthwise_reach(rounded()) * 4 * ACTIVATION_MAX >= SUM_LIMIT)
    return rounded(), exponents


def _parts(q: np.ndarray) -> int:
    """Into how many equal runs of input channels integers (O, I, k, k) are split for exact sums, tap by tap."""
    channels = q.shape[1]
    sizes = np.abs(q).transpose(0, 2, 3, 1).reshape(-1, channels)
    for parts in range(1, channels + 1):
        runs = [
            sizes[:, start : start + -(-channels // parts)].sum(1).max()
            for start in range(0, channels, -(-channels // parts))
        ]
        if max(runs) * ACTIVATION_MAX < SUM_LIMIT:
            return parts
    raise AssertionError("one product is far below the limit")


class ExactConv2d(Scaled):
    """`nn.Conv2d` (dense or depth-wise, stride 1 or more) with exact sums: (B, in, h, w) → (B, out, h', w') float32."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if conv.groups not in (1, conv.in_channels) or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
            raise ValueError(f"no exact form of {conv}")
        self.depthwise = conv.groups > 1
        self.stride = int(conv.stride[0])
        self.padding = int(conv.padding[0])
        device = conv.weight.device
        q, exponents = _integer_weights(conv.weight.detach().float().cpu().numpy(), self.depthwise)
        self.parts = 1 if self.depthwise else _parts(q)
        self.register_buffer("weight", torch.from_numpy(q).to(device))
        units = np.ldexp(np.float32(1), exponents)
        self.register_buffer("unit", torch.from_numpy(units).to(device).view(1, -1, 1, 1))
        bias = torch.zeros(len(q), device=device) if conv.bias is None else conv.bias.detach().float()
        self.register_buffer("bias", bias.view(1, -1, 1, 1))

    weight: Tensor
    unit: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        q = self.integers(x)
        sums = exact_product(self._depthwise, q) if self.depthwise else self._dense(q)
        assert self.exponent is not None
        unit = self.unit * 2.0**-self.exponent
        # The product is exact, so it cannot matter whether it is rounded before the sum.
        if sums.is_cuda:
            return torch.addcmul(self.bias, sums, unit)
        return sums.mul_(unit).add_(self.bias)  # twice as fast on processors

    def _depthwise(self, q: Tensor) -> Tensor:
        return F.conv2d(q, self.weight, None, self.stride, self.padding, groups=len(self.weight))

    def _dense(self, q: Tensor) -> Tensor:
        kernel, stride = self.weight.shape[-1], self.stride
        if self.padding:
            q = F.pad(q, (self.padding,) * 4)
        height = (q.shape[-2] - kernel) // stride + 1
        width = (q.shape[-1] - kernel) // stride + 1
        sums: Tensor | None = None
        for i in range(kernel):
            for j in range(kernel):
                tap = q[..., i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
                run = -(-tap.shape[1] // self.parts)
                for some, weight in zip(
                    tap.flatten(2).split(run, 1), self.weight[:, :, i, j].split(run, 1), strict=True
                ):
                    term = exact_product(partial(torch.matmul, weight), some)
                    sums = term if sums is None else sums.add_(term)  # in this order: these may pass 2^24
        assert sums is not None
        return sums.unflatten(2, (height, width))


class ExactWeightedMean(Scaled):
    """`WeightedMean` of weights that are multiples of 2^-8 from 0 to 1, over a power of two of tokens."""

    def forward(self, values: Tensor, weights: Tensor) -> Tensor:
        q, shares = self.integers(values), weights * 2.0**SHARE_BITS
        sums: Tensor | None = None
        for some, share in zip(q.split(_TOKENS, -1), shares.split(_TOKENS, -2), strict=True):
            term = exact_product(partial(torch.matmul, other=share), some)
            sums = term if sums is None else sums.add_(term)
        assert sums is not None
        assert self.exponent is not None
        return sums.mul_(2.0 ** -(self.exponent + SHARE_BITS) / values.shape[-1])


@cache
def _sigmoid_edges() -> tuple[float, ...]:
    """Where the sigmoid is (k - 1/2) / 2^8, for k from 1 to 2^8: ln((2k - 1) / (2^9 + 1 - 2k)), ascending."""
    context, whole = Context(prec=34), 2 ** (SHARE_BITS + 1)
    # `decimal` rounds quotients and logarithms right, so that they are the same everywhere.
    odds = (context.divide(Decimal(whole - odd), Decimal(odd)) for odd in range(1, whole // 2, 2))
    above = [float(context.ln(value)) for value in odds]  # k from 2^8 down to the middle
    return (*(-edge for edge in above), *reversed(above))


class ExactSigmoid(nn.Module):
    """The sigmoid rounded to multiples of 2^-8, by comparison alone; float32 in, float32 out, any shape."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("edges", torch.tensor(_sigmoid_edges(), dtype=torch.float32, device=device))

    edges: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.bucketize(x.contiguous(), self.edges, right=True).float() * 2.0**-SHARE_BITS


_EXACT_ALREADY = (nn.Identity, nn.LeakyReLU, nn.PixelShuffle, nn.Sequential, nn.ModuleList)


def _made_exact(module: nn.Module, device: torch.device) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        return ExactConv2d(module)
    if isinstance(module, nn.Sigmoid):
        return ExactSigmoid(device)
    if isinstance(module, Grid):
        return ExactGrid()
    if isinstance(module, WeightedMean):
        return ExactWeightedMean()
    children = list(module.named_children())
    if not children and not isinstance(module, _EXACT_ALREADY):
        raise ValueError(f"no exact form of {module}")
    for name, child in children:
        setattr(module, name, _made_exact(child, device))
    return module


def exact_copy(module: nn.Module) -> nn.Module:
    """A float32 copy of `module` whose convolutions sum exactly, for inference, once it was calibrated.

    The original is not changed. What `module` computes itself, beside its children, must be additions, products,
    comparisons or moves.

    Raises:
        ValueError: a layer has no exact form.
        RuntimeError: this device does not compute exact products of integers.
    """
    clone = copy.deepcopy(module).eval().requires_grad_(False)
    device = torch.device("cpu")
    for parameter in clone.parameters():
        device = parameter.device
        # A process may take subnormal numbers for zero (`torch.set_flush_denormal`): none may come up.
        parameter.masked_fill_(parameter.abs() < NEGLIGIBLE, 0.0)
    check_products(device)
    return _made_exact(clone.float(), device)
