"""Prepared weights: made once, never out of date, and no part of what is copied or stored."""

import copy
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measures import model_config
from glc_train.autoencoder import VQVAE
from glc_train.layers import Conv1x1, Conv3x3, GroupNorm, forget_prepared, keep_prepared, kept_bytes, upsample, winograd

X = torch.randn(1, 64, 16, 24, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)


class _Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return upsample(self, x)


KINDS: dict[str, Callable[[], nn.Conv2d]] = {
    "by Winograd": lambda: Conv3x3(64, 64),
    "cast 3x3": lambda: Conv3x3(64, 8),
    "cast 1x1": lambda: Conv1x1(64, 64),
    "folded": lambda: _Doubled(64, 64, 3, padding=1),
}


@pytest.fixture(params=KINDS)
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[nn.Conv2d]:
    monkeypatch.setattr(winograd, "least_channels", lambda: 64)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled="cast" in request.param):
        yield KINDS[request.param]().eval().requires_grad_(False)


def run(layer: nn.Module, times: int = 1) -> Tensor:
    with torch.inference_mode(), keep_prepared():
        for _ in range(times):
            out: Tensor = layer(X)
    return out


def anew(layer: nn.Module) -> Tensor:
    with torch.inference_mode():
        out: Tensor = layer(X)
    return out


def test_weights_are_kept_from_the_second_use_on(layer: nn.Conv2d) -> None:
    first = run(layer)
    assert kept_bytes(layer) == 0
    second = run(layer)
    kept = kept_bytes(layer)
    assert kept > 0
    third = run(layer)
    assert kept_bytes(layer) == kept
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    forget_prepared(layer)
    assert kept_bytes(layer) == 0


def _numpy(layer: nn.Conv2d) -> None:
    layer.weight.numpy()[:] *= 2
    forget_prepared(layer)


def _fused(layer: nn.Conv2d) -> None:
    layer.requires_grad_(True)
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.AdamW([layer.weight], lr=1.0, fused=True).step()
    layer.requires_grad_(False)


def _swap(layer: nn.Conv2d) -> None:
    average = copy.deepcopy(layer)
    torch._foreach_mul_([average.weight.detach()], 0.5)
    layer.weight.data, average.weight.data = average.weight.data, layer.weight.data


def _foreach(layer: nn.Conv2d) -> None:
    torch._foreach_lerp_([layer.weight.detach()], [torch.zeros_like(layer.weight)], 0.5)


def _there_and_back(layer: nn.Conv2d) -> None:
    for _ in range(4):  # the allocator gives the same addresses again
        layer.to(torch.bfloat16).float()
        layer.weight.data = layer.weight.data * 2


def _wrapped_anew(layer: nn.Conv2d) -> None:
    """The same memory and the same version, in another parameter."""
    version = layer.weight._version
    layer.weight = nn.Parameter(layer.weight.data, requires_grad=False)
    assert layer.weight._version < version
    while layer.weight._version < version:
        layer.weight.mul_(2)


CHANGES: dict[str, Callable[[nn.Conv2d], Any]] = {
    "in place": lambda layer: layer.weight.mul_(2),
    "bias": lambda layer: nn.init.ones_(layer.get_parameter("bias")),
    "load_state_dict": lambda layer: layer.load_state_dict({k: 2 * v for k, v in layer.state_dict().items()}),
    "assigned": lambda layer: layer.load_state_dict({k: 2 * v for k, v in layer.state_dict().items()}, assign=True),
    "replaced": lambda layer: setattr(layer, "weight", nn.Parameter(2 * layer.weight, requires_grad=False)),
    "to": _there_and_back,
    "fused optimiser": _fused,
    "swapped": _swap,
    "averaged": _foreach,
    "wrapped anew": _wrapped_anew,
    "NumPy": _numpy,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_parameters_are_prepared_anew(layer: nn.Conv2d, change: str) -> None:
    before = run(layer, 3)
    with torch.no_grad():
        CHANGES[change](layer)
    expected = anew(layer)
    assert not torch.equal(before, expected)
    for _ in range(3):
        assert torch.equal(run(layer), expected)


class _Added(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.zeros_like(weight), requires_grad=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.more


def test_parameters_of_a_parametrised_weight_are_looked_at(layer: nn.Conv2d) -> None:
    more = _Added(layer.weight)
    parametrize.register_parametrization(layer, "weight", more)
    before = run(layer.eval(), 3)
    more.more.copy_(torch.ones_like(more.more))
    assert not torch.equal(run(layer), before)


def test_weights_that_move_leave_nothing_behind() -> None:
    config = {key: value for key, value in model_config()["autoencoder"].items() if key != "_target_"}
    network = VQVAE(**config).eval().requires_grad_(False).encoder
    with torch.inference_mode(), keep_prepared(), torch.autocast("cpu", torch.bfloat16):  # what is cast is kept
        for _ in range(3):
            network(torch.zeros(1, 3, 64, 64), None)
    assert kept_bytes(network) > 0
    network.double()
    assert kept_bytes(network) == 0


@pytest.mark.parametrize("state", ["training", "gradients", "outside"])
def test_nothing_is_kept_of_what_may_change(layer: nn.Conv2d, state: str) -> None:
    if state == "outside":
        anew(layer)
        anew(layer)
    else:
        run(layer.train() if state == "training" else layer.requires_grad_(True), 3)
    assert kept_bytes(layer) == 0


def test_copies_and_files_know_nothing_of_it(layer: nn.Conv2d) -> None:
    keys, size = list(layer.state_dict()), len(pickle.dumps(layer.state_dict()))
    attributes = set(vars(layer))
    run(layer, 3)
    assert set(vars(layer)) == attributes
    assert (list(layer.state_dict()), len(pickle.dumps(layer.state_dict()))) == (keys, size)
    twin = copy.deepcopy(layer)
    assert kept_bytes(twin) == 0
    twin.weight.mul_(2)
    assert torch.equal(run(twin, 3), anew(twin))


def test_what_was_kept_in_inference_mode_is_of_use_without(layer: nn.Conv2d) -> None:
    expected = run(layer, 3)
    with torch.no_grad(), keep_prepared():
        assert torch.equal(layer(X), expected)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "prim" and not func.is_view:
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_a_gpu_is_given_few_operators_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "data_ptr", lambda _: 0)  # these tensors have none
    config = {key: value for key, value in model_config("small")["autoencoder"].items() if key != "_target_"}
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:
        with FakeTensorMode(), torch.device("cuda"), torch.inference_mode(), keep_prepared():
            with torch.inference_mode(False):
                model = VQVAE(**config).eval().requires_grad_(False)
            x = torch.empty(1, 3, 512, 768)
            torch.set_autocast_enabled("cuda", True)
            torch.set_autocast_dtype("cuda", torch.bfloat16)
            for _ in range(3):
                with _Counter() as counter:
                    picture = model.decoder(model.encoder(x, model.window), model.window)
        assert picture.dtype == torch.bfloat16
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
    convolutions = sum(number for name, number in counter.calls.items() if name.startswith("conv"))
    assert convolutions > 50
    assert sum(counter.calls.values()) <= 4 * convolutions
    assert counter.calls["_to_copy"] + counter.calls["to"] <= 2  # the picture alone is cast


def test_the_operator_of_small_maps_is_the_normalisation() -> None:
    norm = GroupNorm(32, 64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = X.repeat(2, 1, 1, 1)
    with torch.no_grad():
        found = norm._at_once(x)
    assert torch.allclose(found, F.group_norm(x, norm.num_groups, norm.weight, norm.bias, 1e-6), atol=1e-5)
    assert found.is_contiguous()
