import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import (
    FRACTION_BITS,
    Grid,
    WeightedMean,
    block_a,
    block_b,
    block_c,
    calibrate,
    conv1x1,
    conv3x3,
    exact_copy,
    exact_products,
    snap,
)
from glc_train.layers.exact import ACTIVATION_MAX, SUM_LIMIT, ExactConv2d, Scaled

CONVOLUTIONS = {
    "1x1": lambda: conv1x1(24, 40),
    "3x3": lambda: conv3x3(24, 40),
    "3x3 stride 2": lambda: conv3x3(24, 40, stride=2),
    "3x3 stride 2, no padding": lambda: nn.Conv2d(24, 40, 3, stride=2),
    "5x5 stride 3": lambda: nn.Conv2d(24, 40, 5, stride=3, padding=2),
    "depthwise": lambda: nn.Conv2d(24, 24, 3, padding=1, groups=24),
    "depthwise stride 2": lambda: nn.Conv2d(24, 24, 3, stride=2, padding=1, groups=24),
    "no bias": lambda: nn.Conv2d(24, 40, 3, padding=1, bias=False),
}


def activations(batch: int = 2, channels: int = 24, height: int = 9, width: int = 12) -> Tensor:
    """Values of many magnitudes."""
    return torch.randn(batch, channels, height, width) * torch.logspace(-3, 1, width)


def calibrated(module: nn.Module, *inputs: Tensor) -> Any:
    """The exact copy of a module, for such inputs."""
    exact = exact_copy(module)
    calibrate(exact, lambda: exact(*inputs))
    return exact


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_equals_a_convolution_of_the_integers(kind: str) -> None:
    conv, x = CONVOLUTIONS[kind](), activations()
    exact = calibrated(conv, x)
    scale = 2.0**exact.exponent
    rounded = (x.double() * scale).round() / scale
    assert 256 <= float(x.abs().max()) * scale < 512  # twice as much has room
    weight = exact.weight.double() * exact.unit.double().view(-1, 1, 1, 1)
    bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias
    clamped = rounded.clamp(-ACTIVATION_MAX / scale, ACTIVATION_MAX / scale)
    sums = F.conv2d(clamped, weight, None, conv.stride, conv.padding, groups=conv.groups)
    expected = (sums + bias.double().view(1, -1, 1, 1)).float()  # all rounding there is
    assert exact(x).dtype == torch.float32
    assert torch.equal(exact(x), expected)
    # 8 bits with sign: half a unit of the channel's largest weight, or a unit for some depth-wise ones.
    largest = conv.weight.detach().abs().flatten(1).amax(1).view(-1, 1, 1, 1)
    assert bool(((weight - conv.weight).abs() <= largest * 2.0**-6).all())
    assert float(exact.weight.abs().max()) <= 128


@pytest.mark.parametrize("kind", ["1x1", "3x3", "3x3 stride 2"])
def test_sums_do_not_depend_on_their_order(kind: str) -> None:
    conv = CONVOLUTIONS[kind]()
    order = torch.randperm(conv.in_channels)
    shuffled = CONVOLUTIONS[kind]()
    shuffled.load_state_dict({"weight": conv.weight[:, order], "bias": conv.bias})
    x = activations()
    assert torch.equal(calibrated(conv, x)(x), calibrated(shuffled, x)(x[:, order]))
    # The premise: float32 sums do depend on it.
    assert not torch.equal(conv(x), shuffled(x[:, order]))


@pytest.mark.parametrize("block", [block_a, block_b, block_c])
def test_batches_and_threads_do_not_matter(block: Callable[[int, int], nn.Sequential]) -> None:
    x = activations(batch=3, channels=48, height=16, width=16)
    network = calibrated(block(48, 32), x)
    together = network(x)
    assert torch.equal(together, torch.cat([network(one[None]) for one in x]))
    assert torch.equal(together, network(x.to(memory_format=torch.channels_last)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(together, network(x))
    finally:
        torch.set_num_threads(threads)


# ------------------------------------------------------------------ the largest sums


@pytest.mark.parametrize("channels", [128, 129, 1000, 4096])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_largest_sums_are_exact_and_wider_layers_are_split(channels: int, kernel: int) -> None:
    conv = nn.Conv2d(channels, 3, kernel)
    signs = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.where(torch.rand_like(conv.weight) < 0.5, 0.998, 127 / 128) * signs)
        conv.weight[2, ::2] *= -1  # partial sums that cancel
        conv.weight[:, 0] = 0.998
        conv.get_parameter("bias").zero_()
    x = torch.full((1, channels, kernel, kernel), float(ACTIVATION_MAX))
    exact = calibrated(conv, x / 2)
    assert exact.exponent == 0
    q = exact.weight.to(torch.int64)
    parts = q.split(-(-channels // exact.parts), 1)
    assert len(parts) == exact.parts == -(-channels // 128)
    assert max(int(part.abs().sum(1).max()) for part in parts) * ACTIVATION_MAX < SUM_LIMIT
    unit, columns = float(exact.unit.flatten()[0]), -(-channels // exact.parts)
    expected = torch.zeros(3)
    for i in range(kernel):
        for j in range(kernel):
            for part in q[:, :, i, j].split(columns, 1):  # exact sums, added in this order
                expected = expected + (part.sum(1) * ACTIVATION_MAX).float()
    assert torch.equal(exact(x).flatten(), expected * unit)


def test_depthwise_sums_are_exact_in_the_algorithm_of_winograd_too() -> None:
    """F(2×2, 3×3) in float32, step by step, on the largest inputs that there are: the libraries of ARM use it."""
    kernels = torch.cat([torch.ones(1, 1, 3, 3), torch.rand(63, 1, 3, 3).round() * 2 - 1, torch.randn(64, 1, 3, 3)])
    conv = nn.Conv2d(128, 128, 3, groups=128, bias=False)
    conv.load_state_dict({"weight": kernels})
    x = torch.where(torch.rand(1, 128, 4, 4) < 0.5, 1.0, -1.0) * ACTIVATION_MAX
    x[:, 0] = ACTIVATION_MAX
    exact = calibrated(conv, x / 2)
    left = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]])
    filters = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1.0]])
    out = torch.tensor([[1, 1, 1, 0], [0, 1, -1, -1.0]])
    product = (filters @ exact.weight[:, 0] @ filters.t()) * (left @ x[0] @ left.t())
    assert float((out.abs() @ (product.abs() * 4) @ out.abs().t()).max()) < SUM_LIMIT
    found = (out @ product @ out.t()) * exact.unit[0].view(-1, 1, 1)
    assert torch.equal(found, exact(x)[0])
    assert float(exact.weight[0].max()) == 64  # all nine alike: these have a bit less


def test_means_over_many_tokens_are_exact() -> None:
    tokens = 256
    values, weights = torch.full((1, 2, 3, tokens), float(ACTIVATION_MAX)), torch.ones(1, 2, tokens, 5)
    exact = calibrated(WeightedMean(), values / 2, weights)
    assert torch.equal(exact(values, weights), values[..., :5])
    order = torch.randperm(tokens)
    values, weights = torch.randn(1, 2, 3, tokens) * 200, torch.randint(0, 257, (1, 2, tokens, 5)) / 256
    assert torch.allclose(exact(values, weights), WeightedMean()(values, weights), atol=0.5)
    some, other = slice(0, 64), order[order < 64]
    assert torch.equal(exact(values[..., some], weights[:, :, some]), exact(values[..., other], weights[:, :, other]))


# ------------------------------------------------------------------ calibration


def test_inputs_are_clamped_to_what_was_seen() -> None:
    conv, x = conv1x1(4, 4), torch.ones(1, 4, 2, 2) * 1023
    exact = calibrated(conv, x / 2)
    assert torch.equal(exact(x * 100), exact(x))


def test_exponents_are_those_of_the_largest_inputs_of_all() -> None:
    exact = exact_copy(conv1x1(1, 1))
    assert isinstance(exact, Scaled)

    def run(largest: float) -> None:
        exact(torch.zeros(1, 1, 1, 1))
        exact(torch.full((1, 1, 1, 1), -largest))

    for largest, exponent in ((1.0, 8), (511.5, 0), (512.0, -1), (0.0, 20), (1e30, -20), (1e-30, 20)):
        calibrate(exact, partial(run, largest))
        assert exact.exponent == exponent


def test_what_cannot_be_calibrated_is_refused() -> None:
    exact = exact_copy(nn.ModuleList([conv1x1(1, 1), conv1x1(1, 1)]))
    assert isinstance(exact, nn.ModuleList)
    with pytest.raises(RuntimeError, match="before it was calibrated"):
        exact[0](torch.ones(1, 1, 1, 1))
    with pytest.raises(RuntimeError, match="left out 1"):
        calibrate(exact, lambda: exact[0](torch.ones(1, 1, 1, 1)))
    with pytest.raises(ValueError, match="damaged or diverged"):
        calibrate(exact, lambda: exact[0](torch.full((1, 1, 1, 1), math.nan)))


# ------------------------------------------------------------------ switches of the process


@pytest.fixture
def bfloat16_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product rounds its operands to bfloat16, as oneDNN does where it may."""

    def halved(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            def cut(x: Any) -> Any:
                return x.bfloat16().float() if isinstance(x, Tensor) else x

            return function(*map(cut, args), **{k: cut(v) for k, v in kwargs.items()})

        return call

    monkeypatch.setattr(torch, "matmul", halved(torch.matmul))
    monkeypatch.setattr(F, "conv2d", halved(F.conv2d))


@pytest.mark.parametrize("block", [block_a, block_b])
def test_switches_to_fewer_bits_change_nothing(
    block: Callable[[int, int], nn.Sequential], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    x = activations(channels=48)
    network = calibrated(block(48, 32), x)
    plain = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(x), plain)
    request.getfixturevalue("bfloat16_products")
    assert not torch.equal(network(x), plain)  # the premise
    with pytest.raises(RuntimeError, match="not exact on cpu"):
        exact_copy(conv1x1(1, 1))
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    exact_copy(conv1x1(1, 1))
    assert torch.equal(network(x), plain)


@pytest.mark.parametrize("setting", ["medium", "high", "ONEDNN_DEFAULT_FPMATH_MODE", "bf16 products", "both ways"])
def test_every_switch_is_seen(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not exact_products.may_round_operands()
    newer = getattr(torch.backends.mkldnn, "matmul", None)
    before = torch.get_float32_matmul_precision()
    try:
        if setting in ("medium", "high"):
            torch.set_float32_matmul_precision(setting)
        elif setting.startswith("ONEDNN"):
            monkeypatch.setenv(setting, "any")
        elif newer is None:
            pytest.skip("this PyTorch has only the older switch")
        else:
            newer.fp32_precision = "bf16" if setting == "bf16 products" else "tf32"
        assert exact_products.may_round_operands()
    finally:
        if newer is not None:
            newer.fp32_precision = "ieee"
        torch.set_float32_matmul_precision(before)
    monkeypatch.undo()
    assert not exact_products.may_round_operands()


# ------------------------------------------------------------------ what has an exact form


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, dilation=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Sequential(nn.Linear(4, 4)),
        nn.Sequential(nn.GroupNorm(2, 4)),
        nn.Linear(4, 4),
        nn.Sequential(nn.GELU()),
        nn.Sequential(nn.Softplus()),
        nn.Tanh(),
    ],
)
def test_what_has_no_exact_form_is_refused(module: nn.Module) -> None:
    with pytest.raises(ValueError, match="no exact form"):
        exact_copy(module)


def test_the_sigmoid_steps_where_it_should() -> None:
    """Against mpmath: at every edge, and one unit in the last place below it."""
    sigmoid = exact_copy(nn.Sigmoid())
    with mpmath.workdps(40):
        edges = [mpmath.log(mpmath.mpf(2 * k - 1) / (513 - 2 * k)) for k in range(1, 257)]
        nearest = [np.float32(float(edge)) for edge in edges]
        first = [
            x if float(x) >= edge else np.nextafter(x, np.float32(99)) for x, edge in zip(nearest, edges, strict=True)
        ]
    reached = torch.tensor(np.array(nearest))
    assert torch.equal(sigmoid(reached), torch.arange(1, 257) / 256)
    assert torch.equal(sigmoid(torch.nextafter(reached, reached - 1)), torch.arange(256) / 256)
    # No float32 is nearer to an edge than its neighbour is: one step more or less is all that rounding the edges costs.
    assert all(abs(a - b) <= np.spacing(abs(a)) for a, b in zip(nearest, first, strict=True))


def test_the_sigmoid_is_the_rounded_sigmoid() -> None:
    sigmoid = exact_copy(nn.Sigmoid())
    x = torch.cat([torch.randn(1000) * 3, torch.tensor([0.0, -0.0, 1e30, -1e30, 9.5, -9.5])]).view(2, 503)
    assert torch.equal(sigmoid(x), (torch.sigmoid(x) * 256).round() / 256)
    assert torch.equal(sigmoid(x.t()), sigmoid(x).t())  # not contiguous


def test_snap() -> None:
    step = 2.0**-FRACTION_BITS
    x = torch.tensor([0.0, 0.4 * step, 0.6 * step, -1.5 * step, 5000.0, -5000.0, 1e38])
    assert snap(x).tolist() == [0.0, 0.0, step, -2 * step, 2048.0, -2048.0, 2048.0]
    assert torch.equal(exact_copy(Grid())(x), snap(x))
    assert Grid()(x) is x


def test_the_original_is_left_alone() -> None:
    network, x = block_a(8), torch.randn(1, 8, 6, 6)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    clone = calibrated(network, x)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())
    assert torch.allclose(clone(x), network(x), atol=2e-2)


def test_zero_weights_have_an_exact_form() -> None:
    conv, x = conv1x1(4, 4), torch.ones(1, 4, 2, 2)
    nn.init.zeros_(conv.weight)
    bias = conv.get_parameter("bias").view(1, 4, 1, 1)
    exact = calibrated(conv, x)
    assert isinstance(exact, ExactConv2d)
    assert torch.equal(exact(x), bias.expand(1, 4, 2, 2))
