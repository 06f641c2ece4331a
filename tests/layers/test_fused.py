"""Kernels for GPUs: on processors by Triton's interpreter, on a GPU as they are."""

import copy
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.autoencoder import VQVAE
from glc_train.layers import GroupNorm, fused

_ROUNDING = 2.0**-7  # of bfloat16, in terms of a number: the interpreter cuts digits off


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The kernels, run by Triton's interpreter, for maps on the processor."""
    name = "glc_train.layers.fused_kernels"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    before = sys.modules.pop(name, None)
    kernels = importlib.import_module(name)

    def fits(x: Tensor) -> bool:
        last = x.is_contiguous(memory_format=torch.channels_last)
        return x.element_size() == 2 and last and not torch.is_grad_enabled()

    monkeypatch.setattr(fused, "_kernels", lambda: kernels)
    monkeypatch.setattr(fused, "fits", fits)
    yield kernels
    sys.modules.pop(name)
    if before is not None:
        sys.modules[name] = before


def _map(*shape: int, device: str = "cpu") -> Tensor:
    return (2 * torch.randn(shape, device=device) + 3).to(torch.bfloat16, memory_format=torch.channels_last)


def _norm(groups: int, channels: int, device: str = "cpu") -> GroupNorm:
    norm = GroupNorm(groups, channels).to(device)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def _check_norm(device: str, shape: tuple[int, ...], groups: int, swish: bool, biased: bool) -> None:
    x, norm = _map(*shape, device=device), _norm(groups, shape[1], device)
    bias = torch.randn(shape[1], device=device) if biased else None
    with torch.no_grad():
        found = fused.norm(x, norm, swish, bias)
        full = x.double() if bias is None else x.double() + bias[:, None, None]
        expected = F.group_norm(full, groups, norm.weight.double(), norm.bias.double(), 1e-6)
    expected = F.silu(expected) if swish else expected
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found.double(), expected, rtol=_ROUNDING, atol=1e-3)


def _check_sum(device: str, shape: tuple[int, ...], biased: bool, two: bool) -> None:
    x = _map(*shape, device=device)
    bias, other = torch.randn(shape[1], device=device) if biased else None, torch.randn_like(x) if two else None
    expected = x.float() + (0 if bias is None else bias[:, None, None]) + (0 if other is None else other.float())
    with torch.no_grad():
        found = fused.add(x, bias, other)
    assert found is x
    assert torch.allclose(found.float(), expected, rtol=_ROUNDING, atol=1e-3)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("shape", "groups"), [((1, 8, 7, 9), 4), ((2, 96, 13, 11), 32), ((1, 48, 40, 70), 8)])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("swish", [False, True])
def test_normalisation_of_a_map(shape: tuple[int, ...], groups: int, swish: bool, biased: bool) -> None:
    _check_norm("cpu", shape, groups, swish, biased)


@pytest.mark.usefixtures("interpreted")
def test_a_map_in_many_parts_keeps_its_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_NUMBERS", 64)
    monkeypatch.setattr(fused, "_PARTS", 300)  # more than are looked at together
    _check_norm("cpu", (1, 8, 61, 17), 2, swish=False, biased=True)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("biased", "two"), [(True, True), (True, False), (False, True)])
def test_sums_in_place(biased: bool, two: bool) -> None:
    _check_sum("cpu", (2, 96, 13, 11), biased, two)


@pytest.mark.usefixtures("interpreted")
def test_an_auto_encoder_in_few_passes_gives_the_same() -> None:
    model = VQVAE([16, 24, 32], 12, 20, res_blocks=1, patch=1, groups=4, window=3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    exact = copy.deepcopy(model).double()
    x, latent = torch.rand(1, 3, 32, 48) * 2 - 1, torch.randn(1, 12, 8, 12)
    pairs = [(model.encoder, exact.encoder, x), (model.decoder, exact.decoder, latent)]
    for network, reference, given in pairs:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = network(given, 3)
        expected = reference(given.double(), 3)
        assert float((found - expected).detach().std() / expected.detach().std()) < 0.05


def test_a_processor_takes_the_other_way() -> None:
    assert not fused.fits(_map(1, 8, 4, 4))


def test_kernels_that_do_not_run_are_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "glc_train.layers.fused_kernels", raising=False)
    fused._kernels.cache_clear()
    assert fused._kernels() is None
    fused._kernels.cache_clear()
    assert "PyTorch's take longer" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((1, 32, 7, 9), 32), ((2, 192, 33, 41), 32), ((1, 128, 1080, 1920), 32), ((1, 512, 68, 9), 32)],
)
def test_kernels_on_a_gpu(shape: tuple[int, ...], groups: int) -> None:
    assert fused._kernels() is not None
    _check_norm("cuda", shape, groups, swish=True, biased=True)
    _check_norm("cuda", shape, groups, swish=False, biased=False)
    _check_sum("cuda", shape, biased=True, two=True)
