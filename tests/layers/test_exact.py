import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import FRACTION_BITS, block_a, block_b, block_c, conv1x1, conv3x3, exact_copy, snap
from glc_train.layers.exact import MAGNITUDE_BITS

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
    """Values on the grid, of every magnitude up to the clamp."""
    return snap(torch.randn(batch, channels, height, width, dtype=torch.float64) * torch.logspace(-3, 3, width))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_equals_a_float64_convolution_of_the_rounded_weights(kind: str) -> None:
    conv = CONVOLUTIONS[kind]()
    exact, x = exact_copy(conv), activations()
    bias = None if conv.bias is None else conv.bias.double()
    rounded = exact.get_buffer("weight")
    expected = F.conv2d(x, rounded, bias, conv.stride, conv.padding, groups=conv.groups)
    assert exact(x).dtype == torch.float64
    # Sums are exact on both sides; only the last addition, of the bias, may round in another order.
    assert torch.allclose(exact(x), expected, rtol=0, atol=1e-11)
    # Rounded weights are the weights, to 15 bits of the largest one.
    weight = conv.weight.detach()
    assert float((rounded - weight).abs().max()) <= float(weight.abs().max()) * 2.0**-15


@pytest.mark.parametrize("kind", ["1x1", "3x3", "3x3 stride 2"])
def test_sums_do_not_depend_on_their_order(kind: str) -> None:
    conv = CONVOLUTIONS[kind]()
    order = torch.randperm(conv.in_channels)
    shuffled = CONVOLUTIONS[kind]()
    shuffled.load_state_dict({"weight": conv.weight[:, order], "bias": conv.bias})
    x = activations()
    assert torch.equal(exact_copy(conv)(x), exact_copy(shuffled)(x[:, order]))
    # The premise: float32 sums do depend on it.
    assert not torch.equal(conv(x.float()), shuffled(x.float()[:, order]))


def test_inputs_off_the_grid_are_rounded_to_it() -> None:
    conv, x = CONVOLUTIONS["3x3"](), torch.randn(2, 24, 9, 12, dtype=torch.float64) * 3000
    assert not torch.equal(x, snap(x))
    assert torch.equal(exact_copy(conv)(x), exact_copy(conv)(snap(x)))


@pytest.mark.parametrize("block", [block_a, block_b, block_c])
def test_batches_and_threads_do_not_matter(block: Callable[[int, int], nn.Sequential]) -> None:
    network = exact_copy(block(48, 32))
    x = activations(batch=3, channels=48, height=16, width=16)
    together = network(x)
    assert torch.equal(together, torch.cat([network(one[None]) for one in x]))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(together, network(x))
    finally:
        torch.set_num_threads(threads)


def test_a_widest_layer_at_its_limits_sums_exactly() -> None:
    conv = conv1x1(4096, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.where(torch.rand_like(conv.weight) < 0.5, 1.0, 65535 / 65536))
    x = torch.full((1, 4096, 1, 1), 2.0**MAGNITUDE_BITS - 2.0**-FRACTION_BITS, dtype=torch.float64)
    exact = exact_copy(conv)
    units = [round(float(w) * 2**16) for w in exact.get_buffer("weight")[0].flatten()]
    activation = 2 ** (MAGNITUDE_BITS + FRACTION_BITS) - 1
    whole = sum(unit * activation for unit in units)  # Python integers: no rounding
    assert float(exact(x)[0, 0]) == whole / 2 ** (16 + FRACTION_BITS) + float(exact.get_buffer("bias")[0])


def test_too_wide_a_layer_is_refused() -> None:
    conv = conv1x1(2**15, 1)
    nn.init.ones_(conv.weight)
    with pytest.raises(ValueError, match="too wide"):
        exact_copy(conv)


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
        edges = [mpmath.log(mpmath.mpf(2 * k - 1) / (8193 - 2 * k)) for k in range(1, 4097)]
        nearest = [float(edge) for edge in edges]
        first = [x if x >= edge else math.nextafter(x, 99) for x, edge in zip(nearest, edges, strict=True)]
    reached = torch.tensor(nearest, dtype=torch.float64)
    assert torch.equal(sigmoid(reached), torch.arange(1, 4097).double() / 4096)
    assert torch.equal(sigmoid(torch.nextafter(reached, reached - 1)), torch.arange(4096).double() / 4096)
    # No float64 is nearer to an edge than its neighbour is: one step more or less is all that rounding the edges costs.
    assert all(abs(a - b) <= math.ulp(a) for a, b in zip(nearest, first, strict=True))


def test_the_sigmoid_is_the_rounded_sigmoid() -> None:
    sigmoid = exact_copy(nn.Sigmoid())
    x = torch.cat([torch.randn(1000).double() * 3, torch.tensor([0.0, -0.0, 1e300, -1e300, 9.5, -9.5])]).view(2, 503)
    assert torch.equal(sigmoid(x), snap(torch.sigmoid(x)))
    assert torch.equal(sigmoid(x.t()), sigmoid(x).t())  # not contiguous


def test_snap() -> None:
    step = 2.0**-FRACTION_BITS
    x = torch.tensor([0.0, 0.4 * step, 0.6 * step, -1.5 * step, 5000.0, -5000.0], dtype=torch.float64)
    assert snap(x).tolist() == [0.0, 0.0, step, -2 * step, 2048.0, -2048.0]


def test_the_original_is_left_alone() -> None:
    network = block_a(8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    clone = exact_copy(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in network.parameters())
    x = snap(torch.randn(1, 8, 6, 6, dtype=torch.float64))
    assert torch.allclose(clone(x).float(), network(x.float()), atol=1e-2)


def test_zero_weights_have_an_exact_form() -> None:
    conv = conv1x1(4, 4)
    nn.init.zeros_(conv.weight)
    bias = conv.get_parameter("bias").double().view(1, 4, 1, 1)
    assert torch.equal(exact_copy(conv)(torch.ones(1, 4, 2, 2).double()), bias.expand(1, 4, 2, 2))
