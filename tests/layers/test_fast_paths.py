"""Layers compute the same without gradients, where they take the cheaper way, as with them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.autoencoder import VQVAE
from glc_train.layers import (
    Conv3x3,
    GroupNorm,
    SpatialAttention,
    fused,
    halve,
    swish,
    upsample,
    winograd,
)
from glc_train.layers.normalisation import channel_moments


@pytest.mark.parametrize("shape", [(1, 6, 4, 8), (2, 6, 5, 7), (1, 6, 1, 2)])
@pytest.mark.parametrize("last", [True, False])
def test_doubling_is_one_transposed_convolution(shape: tuple[int, ...], last: bool) -> None:
    conv, x = nn.Conv2d(6, 5, 3, padding=1), torch.randn(shape)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    slow = upsample(conv, x)
    with torch.no_grad():
        assert torch.allclose(upsample(conv, x), slow, atol=1e-5)
    assert torch.equal(slow, conv(F.interpolate(x, scale_factor=2.0)))


@pytest.mark.parametrize("shape", [(1, 6, 4, 8), (2, 6, 5, 7), (1, 6, 2, 3)])
@pytest.mark.parametrize("last", [True, False])
def test_halving_needs_no_padded_copy(shape: tuple[int, ...], last: bool) -> None:
    conv, x = nn.Conv2d(6, 5, 3, stride=2), torch.randn(shape)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    slow = halve(conv, x)
    with torch.no_grad():
        fast = halve(conv, x)
    assert torch.allclose(fast, slow, atol=1e-5)
    assert fast.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert torch.equal(slow, conv(F.pad(x, (0, 1, 0, 1))))


def test_moments_of_channels_give_those_of_groups() -> None:
    norm, x = GroupNorm(4, 12), (torch.randn(1, 12, 9, 10) * 3 + torch.randn(12, 1, 1)).contiguous()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    fast = norm.normalise(x, norm.moments(x))
    assert torch.allclose(fast, norm(x), atol=1e-5)
    half = x.bfloat16()
    mean, variance = channel_moments(half)
    assert mean.dtype == variance.dtype == torch.float32
    assert torch.allclose(mean, half.float().mean((0, 2, 3)), atol=1e-5)


def test_swish_overwrites_only_without_gradients() -> None:
    x = torch.randn(2, 3, requires_grad=True)
    assert torch.equal(swish(x), F.silu(x))
    with torch.no_grad():
        y = x.clone()
        assert swish(y) is y
        assert torch.equal(y, F.silu(x))


def test_windows_of_one_size_are_attended_together(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    attend = F.scaled_dot_product_attention

    def recorded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(q)
        return attend(q, k, v)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    SpatialAttention(16, groups=4)(torch.randn(2, 16, 9, 14), window=4)
    assert [call.shape[0] for call in calls] == [2 * 2 * 3, 2 * 2, 2 * 3, 2]
    assert [call.shape[2] for call in calls] == [16, 8, 4, 2]


@pytest.mark.parametrize("groups", [4, None])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_auto_encoder_gives_the_same_without_gradients(groups: int | None, batch: int) -> None:
    model = VQVAE([8, 16, 16], 12, 20, res_blocks=1, patch=1, groups=groups, window=3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, latent = torch.rand(batch, 3, 32, 48) * 2 - 1, torch.randn(batch, 12, 8, 12)
    slow = model.encoder(x, 3), model.decoder(latent, 3)
    with torch.inference_mode():
        fast = model.encoder(x, 3), model.decoder(latent, 3)
    for a, b in zip(fast, slow, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(b.detach().abs().max()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("few", [0, 1 << 20])
def test_group_normalisation_on_a_gpu_keeps_the_type(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "FEW", few)
    monkeypatch.setattr(fused, "_kernels", lambda: None)  # as without Triton
    norm, x = GroupNorm(4, 12).cuda(), torch.randn(1, 12, 9, 10, device="cuda") * 3 + 1
    last = x.bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        fast = norm(last)
    assert fast.dtype == torch.bfloat16
    assert fast.is_contiguous(memory_format=torch.contiguous_format if few else torch.channels_last)
    assert torch.allclose(fast.float(), norm(last.float()), atol=0.05)


@pytest.mark.parametrize("shape", [(1, 5, 9, 7), (2, 5, 16, 8), (1, 70, 5, 33), (1, 5, 3, 3)])
@pytest.mark.parametrize("padding", [(1, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize("chunk", [2, 128])
def test_winograd_is_the_convolution(
    shape: tuple[int, ...], padding: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "_CHUNK", chunk)
    monkeypatch.setattr(winograd, "_CHUNK_BYTES", 0)
    conv = nn.Conv2d(shape[1], 12, 3).requires_grad_(False)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    found = winograd.winograd(x, winograd.transformed(conv.weight), conv.bias, padding)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, F.conv2d(x, conv.weight, conv.bias, padding=padding), atol=1e-4)
    plain = F.conv2d(x, conv.weight, padding=padding)
    assert torch.allclose(winograd.winograd(x, winograd.transformed(conv.weight), None, padding), plain, atol=1e-4)


def test_winograd_is_for_large_maps_of_float32_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    monkeypatch.setattr(winograd, "least_channels", lambda: 64)
    monkeypatch.setattr(winograd, "winograd", lambda x, *_: calls.append(x))
    conv, thin = Conv3x3(64, 64), Conv3x3(64, 8)
    x = torch.randn(1, 64, 40, 40).contiguous(memory_format=torch.channels_last)
    conv(x)
    with torch.no_grad():
        thin(x)
        conv(x[..., :12, :20])
        conv(x.contiguous())
        with torch.autocast("cpu", torch.bfloat16):
            conv(x)
        assert calls == []
        conv(x)
    assert len(calls) == 1
