from typing import Any

import pytest
import torch

from glc_train.autoencoder import VQVAE, DiscriminatorNorm, PatchDiscriminator
from glc_train.autoencoder.networks import ResBlock

SMALL: dict[str, Any] = {
    "widths": [8, 16], "latent_channels": 12, "codes": 20, "res_blocks": 1, "patch": 2, "attention": True, "groups": 4,
    "window": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "factor"),
    [
        ({}, 4),
        ({"patch": 1}, 2),
        ({"patch": 4}, 8),
        ({"widths": [8, 16, 8, 4]}, 16),
        ({"widths": [8]}, 2),
        ({"latent_channels": 5}, 4),
        ({"res_blocks": 3}, 4),
        ({"attention": False}, 4),
        ({"groups": 8}, 4),
        ({"codes": 3}, 4),
    ],
)
def test_every_argument_works(changed: dict[str, Any], factor: int) -> None:
    arguments = SMALL | changed
    model, x = VQVAE(**arguments), torch.rand(2, 3, 32, 48) * 2 - 1
    out = model(x)
    assert model.factor == factor
    assert out.latent.shape == (2, arguments["latent_channels"], 32 // factor, 48 // factor)
    assert out.quantised.indices.max() < arguments["codes"]
    assert out.x_hat.shape == x.shape


def test_depth_and_attention_add_parameters() -> None:
    sizes = [
        sum(p.numel() for p in VQVAE(**(SMALL | c)).parameters()) for c in ({"attention": False}, {}, {"res_blocks": 2})
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_gradients_reach_every_parameter_but_the_codebook() -> None:
    model = VQVAE(**SMALL)
    for block in (module for module in model.modules() if isinstance(module, ResBlock)):
        torch.nn.init.normal_(block.conv2.weight)  # at their start nothing passes through them
    out = model(torch.rand(1, 3, 16, 16))
    (out.x_hat.square().mean() + out.quantised.vectors.square().mean()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_window_is_an_argument_not_a_mode() -> None:
    model, x = VQVAE(**SMALL), torch.rand(1, 3, 32, 32)
    for mode in (True, False):
        model.train(mode)
        whole, windows = model.encoder(x), model.encoder(x, 4)
        assert not torch.allclose(whole, windows)
        assert torch.equal(whole, model.encoder(x, 8))  # the map is 8×8
        assert not torch.allclose(model.decoder(whole), model.decoder(whole, 4))


def test_recomputed_activations_give_the_same_gradients() -> None:
    model, x = VQVAE(**SMALL), torch.rand(1, 3, 16, 16)
    gradients = []
    for on in (False, True):
        model.checkpoint_activations(on)
        model.zero_grad()
        model(x.clone().requires_grad_()).x_hat.square().mean().backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in model.parameters()])
    assert all((a is None and b is None) or torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    assert model.encoder.checkpointing
    assert model.decoder.checkpointing


def test_widths_must_fit_the_groups() -> None:
    with pytest.raises(ValueError, match=r"widths \[10\] must be multiples of groups=4"):
        VQVAE(**(SMALL | {"widths": [8, 10]}))


def test_the_last_layer_is_the_one_that_makes_the_picture() -> None:
    model = VQVAE(**SMALL)
    assert model.decoder.last_layer.shape == (3 * 2**2, 8, 3, 3)
    with torch.no_grad():
        model.decoder.last_layer.zero_()
        flat = model.decoder(torch.randn(1, 12, 2, 2))
    assert torch.equal(flat[..., ::2, ::2], flat[..., :1, :1].expand(-1, -1, 4, 4))  # the bias alone is left


@pytest.mark.parametrize("norm", ["group", "spectral"])
@pytest.mark.parametrize(("channels", "layers"), [(8, 1), (16, 3), (8, 4)])
def test_discriminator_gives_a_map_of_logits(channels: int, layers: int, norm: DiscriminatorNorm) -> None:
    network, x = PatchDiscriminator(channels, layers, norm).eval(), torch.rand(2, 3, 64, 96)
    logits = network(x)
    assert logits.shape[:2] == (2, 1)
    assert min(logits.shape[2:]) > 1
    alone = network(x[:1])  # nothing is shared between the pictures of a batch
    assert torch.allclose(alone, logits[:1], atol=1e-5)


@pytest.mark.parametrize(("norm", "reaches_far"), [("group", True), ("spectral", False)])
def test_a_spot_in_a_corner_sways_group_normalisation_alone(norm: DiscriminatorNorm, reaches_far: bool) -> None:
    network, x = PatchDiscriminator(8, 3, norm).eval(), torch.rand(1, 3, 128, 128)
    spot = x.clone()
    spot[..., -8:, -8:] = 5
    far = (network(spot) - network(x))[..., :4, :4].abs().max()
    assert bool(far > 1e-3) == reaches_far


def test_discriminator_has_two_norms() -> None:
    with pytest.raises(ValueError, match="must be group or spectral, not batch"):
        PatchDiscriminator(8, 2, "batch")  # type: ignore[arg-type]


def test_residual_blocks_start_as_their_skips() -> None:
    x = torch.randn(1, 8, 5, 7)
    assert torch.equal(ResBlock(8, 8, 4)(x), x)
    wider = ResBlock(8, 16, 4)
    assert torch.equal(wider(x), wider.conv_out(x))
