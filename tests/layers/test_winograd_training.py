"""3×3 convolutions of batches by Winograd's filtering: values and gradients, and when they are used."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import Conv3x3, convolve_batch, winograd, winograd_training
from tests.random_trunk import random_trunk

LAST = torch.channels_last


@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (2, 6, 9, 7), (1, 4, 13, 30), (5, 3, 3, 2)])
@pytest.mark.parametrize("chunk", [1, 6, 512])
@pytest.mark.parametrize("memory_format", [LAST, torch.contiguous_format])
def test_values_and_gradients_are_those_of_the_convolution(
    shape: tuple[int, ...], chunk: int, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd_training, "_CHUNK", chunk)
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=LAST)
    weight, bias = torch.randn(7, shape[1], 3, 3).contiguous(memory_format=memory_format), torch.randn(7)
    inputs = [each.requires_grad_() for each in (x, weight, bias)]
    found, expected = winograd_training.convolved(x, weight, bias), F.conv2d(x, weight, bias, padding=1)
    assert found.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    gradient = torch.randn_like(expected)
    pairs = zip(*(torch.autograd.grad(out, inputs, gradient) for out in (found, expected)), strict=True)
    for (one, other), given in zip(pairs, inputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
        assert one.stride() == given.stride()


def test_frozen_weights_get_no_gradient() -> None:
    x, weight = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(5, 4, 3, 3)
    winograd_training.convolved(x, weight, None).square().sum().backward()
    expected = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), x)[0]
    assert weight.grad is None
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-3)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What goes to Winograd's way, on a processor where it is faster from 64 channels and 8 tiles on."""
    found: list[Tensor] = []
    monkeypatch.setattr(winograd, "least_channels", lambda: 64)
    monkeypatch.setattr(winograd_training, "least_tiles", lambda: 8)

    convolved = winograd_training.convolved

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found.append(x)
        return convolved(x, weight, bias)

    monkeypatch.setattr(winograd_training, "convolved", counted)
    return found


def test_it_is_for_enough_tiles_of_float32_and_the_layers_as_they_are_else(calls: list[Tensor]) -> None:
    conv, thin = Conv3x3(64, 64), Conv3x3(64, 8)
    strided, wide = nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.Conv2d(64, 64, 5, padding=2)
    x = torch.randn(2, 64, 8, 8).contiguous(memory_format=LAST)
    thin(x)
    conv(x[:1])
    conv(x.contiguous())
    for other in (strided, wide):
        assert torch.equal(convolve_batch(other, x), other(x))
    with torch.autocast("cpu", torch.bfloat16):
        conv(x)
    with torch.no_grad():
        conv(x)
    assert calls == []
    conv(x)
    assert len(calls) == 1


def test_frozen_trunks_use_it_with_and_without_gradients(calls: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = random_trunk("vgg16")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        trunk(x)
    assert len(calls) == 6  # of 13: the first has too few channels, the last six too few tiles
    gradients = []
    for least in (64, math.inf):
        monkeypatch.setattr(winograd, "least_channels", lambda least=least: least)
        found = torch.stack([features.square().mean() for features in trunk(x.requires_grad_())]).sum()
        gradients.append(torch.autograd.grad(found, x)[0])
        assert len(calls) == 12
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * float(gradients[1].abs().max()))
