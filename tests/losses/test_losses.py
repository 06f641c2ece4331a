import math
from typing import Literal

import pytest
import torch

from glc_train import backbones
from glc_train.autoencoder import VQVAE
from glc_train.backbones import BackboneName
from glc_train.losses import Adversary, PerceptualLoss, RateWeights, style_loss, vq_loss, without_margin
from tests.random_trunk import random_trunk


@pytest.mark.parametrize(("placement", "on_input", "on_codes"), [("commitment", 0.25, 1.0), ("codebook", 1.0, 0.25)])
def test_beta_weighs_the_term_it_is_put_on(placement: str, on_input: float, on_codes: float) -> None:
    x, codes = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    loss = vq_loss(x, codes, 0.25, placement)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(1.25 * float((x - codes).square().mean()), rel=1e-5)
    for_x, for_codes = torch.autograd.grad(loss, (x, codes))
    slope = 2 * (x - codes).detach() / x.numel()
    assert torch.allclose(for_x, on_input * slope)
    assert torch.allclose(for_codes, -on_codes * slope)


def test_lambdas_are_spread_geometrically() -> None:
    weights = RateWeights(3, (4.0, 1.0))
    assert weights(torch.tensor([0, 1, 2, 0]), 0).tolist() == pytest.approx([4.0, 2.0, 1.0, 4.0])


def test_warm_up_rises_quadratically() -> None:
    weights, quality = RateWeights(2, (4.0, 1.0), warmup=10), torch.tensor([1])
    assert [float(weights(quality, step)) for step in (0, 4, 9, 500)] == pytest.approx([0.01, 0.25, 1.0, 1.0])


def test_without_targets_nothing_moves() -> None:
    weights = RateWeights(2)
    before = weights.log_lambda.clone()
    weights.steer(torch.tensor([9.0, 9.0]))
    assert torch.equal(weights.log_lambda, before)


def test_steering_moves_each_lambda_towards_its_target() -> None:
    weights = RateWeights(4, (4.0, 1.0), target_bpp=(0.01, 0.08), gain=0.01)
    before = weights.log_lambda.clone()
    # Targets are 0.01, 0.02, 0.04, 0.08: quality 0 far above, 1 on it, 2 not drawn, 3 below.
    weights.steer(torch.tensor([0.5, 0.02, math.nan, 0.04]))
    assert (weights.log_lambda - before).tolist() == pytest.approx([0.01, 0.0, 0.0, -0.005], abs=1e-6)


def test_the_controller_reaches_its_target() -> None:
    weights, quality = RateWeights(1, (1.0, 1.0), target_bpp=(0.02, 0.02), gain=0.05), torch.tensor([0])
    for _ in range(400):  # a codec whose rate falls with the square root of λ
        weights.steer(0.1 / weights(quality, 0).sqrt())
    assert float(0.1 / weights(quality, 0).sqrt()) == pytest.approx(0.02, rel=0.02)


def test_adversary_schedule() -> None:
    adversary = Adversary(channels=8, layers=1, start=100, warmup=20)
    assert [adversary.learns(step) for step in (79, 80, 100)] == [False, True, True]
    assert [adversary.seen_by_generator(step) for step in (80, 99, 100)] == [False, False, True]


def test_hinge_loss_of_the_discriminator() -> None:
    adversary = Adversary(channels=8, layers=1)
    x, x_hat = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32, requires_grad=True)
    real, fake = adversary.discriminator(x), adversary.discriminator(x_hat)
    expected = 0.5 * ((1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean())
    loss = adversary.discriminator_loss(x, x_hat)
    assert math.isclose(float(loss), float(expected), rel_tol=1e-5)
    loss.backward()
    assert x_hat.grad is None  # the generator is not trained by it
    assert all(p.grad is not None for p in adversary.parameters())


def test_spectral_discriminator_learns_and_stays_bounded() -> None:
    torch.manual_seed(0)
    adversary = Adversary(channels=8, layers=2, norm="spectral")
    optimiser = torch.optim.Adam(adversary.parameters(), 2e-3)
    x, x_hat = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32) * 0.5
    losses = []
    for _ in range(60):
        loss = adversary.discriminator_loss(x, x_hat)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in adversary.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    layers = [layer for layer in adversary.discriminator.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(layers) == 4
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) < 1.1


@pytest.mark.parametrize("clamp", [1e9, 0.01])
def test_generator_gradient_is_balanced_at_the_last_layer(clamp: float) -> None:
    adversary = Adversary(channels=8, layers=1, weight=0.8, clamp=clamp)
    model = VQVAE([8, 8], 8, codes=8, res_blocks=1, patch=2, attention=False, groups=4)
    x = torch.rand(1, 3, 32, 32)
    x_hat, last = model.decoder(model.encoder(x)), model.decoder.last_layer
    picture_loss = (x_hat - x).square().mean()
    (reconstruction,) = torch.autograd.grad(picture_loss, x_hat, retain_graph=True)
    result = adversary.generator_gradient(x_hat, reconstruction, last)

    adversarial_loss = -adversary.discriminator(x_hat).mean()
    norms = [torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (picture_loss, adversarial_loss)]
    weight = min(float(norms[0] / norms[1]), clamp)
    assert float(result.loss) == pytest.approx(float(adversarial_loss), rel=1e-5)
    assert float(result.weight) == pytest.approx(weight, rel=1e-3)
    total = picture_loss + 0.8 * weight * adversarial_loss
    (expected,) = torch.autograd.grad(total, last, retain_graph=True)
    (ours,) = torch.autograd.grad(x_hat, last, result.gradient)
    assert torch.allclose(ours, expected, rtol=1e-3, atol=1e-7)
    assert all(p.requires_grad and p.grad is None for p in adversary.parameters())


def test_style_asks_for_the_texture_and_not_for_its_place() -> None:
    x = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(3)).relu()
    moved = x.flatten(2)[..., torch.randperm(42)].view_as(x)
    assert float(style_loss(x, x)) == 0
    assert float(style_loss(moved, x)) == pytest.approx(0, abs=1e-6)
    assert float(style_loss(torch.zeros_like(x), x)) == pytest.approx(1, rel=1e-3)
    shuffled = x[:, torch.tensor([1, 0, 2, 3, 4])]
    assert float(style_loss(shuffled, x)) > 0.01


def test_style_is_the_distance_of_means_and_deviations() -> None:
    generator = torch.Generator().manual_seed(4)
    values = torch.rand(42, generator=generator)
    x = torch.stack([values[torch.randperm(42, generator=generator)] for _ in range(10)]).view(2, 5, 6, 7)
    assert float(style_loss(2 * x, x)) == pytest.approx(1, rel=1e-4), "both double"
    expected = 7 / float(values.mean()) / 2  # every mean is 7 higher, every deviation the same
    assert float(style_loss(x + 7, x)) == pytest.approx(expected, rel=1e-3)
    assert float(style_loss((x + 7).bfloat16(), x.bfloat16())) == pytest.approx(expected, rel=0.05)
    x.requires_grad_()
    x_hat = (2 * x.detach()).requires_grad_()
    style_loss(x_hat, x).backward()
    assert x.grad is None
    assert x_hat.grad is not None
    assert bool(x_hat.grad.isfinite().all())


def test_style_does_not_leave_out_weak_channels() -> None:
    strengths = torch.tensor([100.0, 10.0, 10.0, 10.0]).view(1, 4, 1, 1)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4)).relu() * strengths
    without = x.clone()
    without[:, 3] = 0
    of_without, of_x = without.mean((2, 3)), x.mean((2, 3))
    as_they_are = float((of_without - of_x).norm() / of_x.norm())
    assert float(style_loss(without, x)) > 2 * as_they_are > 0


def test_style_is_not_all_of_a_channel_that_is_silent_in_the_original() -> None:
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(7)).relu()
    x[:, 0] = 0
    x_hat = x.clone()
    x_hat[:, 0] = 100.0
    strange = float(style_loss(x_hat, x))
    assert 0.05 < strange < 2  # bounded, however strong it is
    x_hat[:, 0] = 1000.0
    assert float(style_loss(x_hat, x)) == pytest.approx(strange, rel=0.05)


def test_pictures_without_their_margin() -> None:
    x = torch.arange(2 * 3 * 10 * 12, dtype=torch.float32).reshape(2, 3, 10, 12)
    assert torch.equal(without_margin(x, 3), x[:, :, 3:7, 3:9])
    assert torch.equal(without_margin(x, 0), x)
    for margin in (5, -1):
        with pytest.raises(ValueError, match=f"a margin of {margin} leaves nothing of pictures of 10x12 pixels"):
            without_margin(x, margin)


def test_what_lies_in_the_margin_does_not_count_for_the_discriminator() -> None:
    generator = torch.Generator().manual_seed(8)
    x, x_hat = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    spotted = x_hat.clone()
    spotted[..., -16:, -16:] = 1.0
    for margin, same in ((0, False), (16, True)):
        adversary = Adversary(channels=8, layers=2, margin=margin)
        losses = [float(adversary.discriminator_loss(x, picture)) for picture in (x_hat, spotted)]
        assert (losses[0] == losses[1]) is same
        last_layer = torch.ones((), requires_grad=True)
        through = adversary.generator_gradient(last_layer * x_hat, torch.zeros_like(x_hat), last_layer)
        assert float(through.weight) == 0  # nothing to balance with
        sent = adversary.generator_gradient(last_layer * x_hat, torch.ones_like(x_hat), last_layer).gradient - 1
        assert bool(sent[..., 16:48, 16:48].any())
        assert bool(sent[..., -16:, :].any()) is not same


def test_style_of_a_backbone_leaves_its_lpips_as_it_is() -> None:
    generator = torch.Generator().manual_seed(6)
    x, x_hat = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    x_hat.requires_grad_()
    perceptual = PerceptualLoss("alex")
    lpips, style = perceptual.with_style(x_hat, x)
    assert float(lpips.detach()) == pytest.approx(float(perceptual(x_hat, x).detach()), rel=1e-6)
    (gradient,) = torch.autograd.grad(style, x_hat)
    assert float(gradient.norm()) > 0
    assert float(perceptual.with_style(x, x)[1]) == 0


def test_style_is_that_of_all_layers() -> None:
    generator = torch.Generator().manual_seed(9)
    x, x_hat = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    perceptual = PerceptualLoss("alex")
    of_x_hat, of_x = (perceptual.network.trunk(picture) for picture in (x_hat, x))
    layers = [float(style_loss(*pair)) for pair in zip(of_x_hat, of_x, strict=True)]
    assert float(perceptual.with_style(x_hat, x)[1]) == pytest.approx(sum(layers) / 5, rel=1e-4)


@pytest.mark.parametrize(("net", "trunk"), [("alex", "alexnet"), ("vgg", "vgg16")])
def test_the_training_loss_is_the_lpips_of_the_authors(
    net: Literal["alex", "vgg"], trunk: BackboneName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glc_train.losses.perceptual.load_trunk", random_trunk)
    ours = PerceptualLoss(net)
    state = ours.network.trunk.state_dict()
    monkeypatch.setattr(backbones, "find_backbone", lambda *_: (state, None))
    theirs = backbones.load_lpips(net)
    generator = torch.Generator().manual_seed(2)
    x, x_hat = (torch.rand(2, 3, 64, 80, generator=generator) * 2 - 1 for _ in range(2))
    x_hat.requires_grad_()
    values = ours(x_hat, x), theirs(x_hat, x).mean()
    assert float(values[0].detach()) == pytest.approx(float(values[1].detach()), rel=1e-5)
    gradients = [torch.autograd.grad(value, x_hat)[0] for value in values]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * float(gradients[1].abs().max()))


def test_places_where_nothing_is_active_leave_the_gradient_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glc_train.losses.perceptual.load_trunk", random_trunk)
    loss = PerceptualLoss("alex")
    loss.network.trunk.get_parameter("features.0.bias").fill_(-1e3)
    x_hat = torch.zeros(1, 3, 64, 64, requires_grad=True)
    value, style = loss.with_style(x_hat, torch.ones(1, 3, 64, 64))
    (gradient,) = torch.autograd.grad(value + style, x_hat)
    assert bool(gradient.isfinite().all())


def test_compiled_networks_give_the_same_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glc_train.losses.perceptual.load_trunk", random_trunk)
    plain, compiled = PerceptualLoss("alex"), PerceptualLoss("alex")
    compiled.network.compile(backend="eager")
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        x, x_hat = (torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
        torch.testing.assert_close(compiled.with_style(x_hat, x), plain.with_style(x_hat, x))
        torch.testing.assert_close(compiled(x_hat, x), plain(x_hat, x))
