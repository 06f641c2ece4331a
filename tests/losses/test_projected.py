"""The discriminator on frozen features: what it learns, what it leaves alone, how it balances."""

import pytest
import torch
from torch import nn

from glc_train.backbones import Trunk
from glc_train.losses import Adversary, ProjectedDiscriminator, projected
from tests.random_trunk import random_trunk


@pytest.fixture(autouse=True)
def trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projected, "load_trunk", random_trunk)


def test_four_maps_of_one_size() -> None:
    logits = ProjectedDiscriminator(channels=8)(torch.zeros(2, 3, 64, 96))
    assert [tuple(each.shape) for each in logits] == [(2, 1, 4, 6)] * 4


def test_only_the_judges_are_trained_and_kept() -> None:
    network = ProjectedDiscriminator(channels=8)
    assert all(name.startswith("judges.") for name, _ in network.named_parameters())
    assert not any("features" in name for name in network.state_dict())
    other = ProjectedDiscriminator(channels=8, seed=1)
    assert not torch.equal(network.get_buffer("mix_channels_0"), other.get_buffer("mix_channels_0"))
    other.load_state_dict(network.state_dict())  # the projections are in the checkpoint
    x = torch.randn(1, 3, 32, 32)
    network.eval(), other.eval()
    assert all(torch.equal(a, b) for a, b in zip(network(x), other(x), strict=True))


def test_it_learns_to_tell_and_the_generator_gets_a_gradient() -> None:
    torch.manual_seed(1)
    adversary = Adversary(discriminator=ProjectedDiscriminator(channels=16), margin=8)
    real, fake = torch.randn(4, 3, 48, 48).clamp(-1, 1), torch.full((4, 3, 48, 48), 0.5)
    optimiser = torch.optim.Adam(adversary.parameters(), lr=2e-3)
    first = adversary.discriminator_loss(real, fake)
    for _ in range(15):
        optimiser.zero_grad()
        loss = adversary.discriminator_loss(real, fake)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.7 * first.item()

    layer = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(layer.weight)
    x_hat = layer(fake)
    before = {name: parameter.requires_grad for name, parameter in adversary.named_parameters()}
    through = adversary.generator_gradient(x_hat, torch.full_like(x_hat, 1e-3), layer.weight)
    assert before == {name: parameter.requires_grad for name, parameter in adversary.named_parameters()}
    assert torch.isfinite(through.gradient).all()
    ones = torch.full_like(x_hat, 1e-3)
    of_real = adversary.generator_gradient(real.requires_grad_() * layer.weight.sum() / 3, ones, layer.weight)
    assert float(through.loss) > float(of_real.loss) + 0.2  # the fake ones are told apart
    inner = through.gradient[..., 8:-8, 8:-8] - 1e-3
    assert float(inner.abs().sum()) > 0
    assert torch.equal(through.gradient[..., :8, :], torch.full_like(through.gradient[..., :8, :], 1e-3))


def test_a_reconstruction_is_projected_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminator's loss takes what the generator's gradient has made of it, and is the same."""
    adversary = Adversary(discriminator=ProjectedDiscriminator(channels=8).eval(), margin=4)
    projected_pictures = []
    forward = Trunk.forward

    def counting(self: Trunk, x: torch.Tensor) -> list[torch.Tensor]:
        projected_pictures.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Trunk, "forward", counting)
    layer, x = nn.Conv2d(3, 3, 1), torch.randn(2, 3, 40, 40)
    x_hat = layer(x)
    through = adversary.generator_gradient(x_hat, torch.ones_like(x), layer.weight)
    loss = adversary.discriminator_loss(x, x_hat, through.seen)
    assert len(projected_pictures) == 2
    assert not any(each.requires_grad for each in through.seen)
    assert torch.equal(loss, adversary.discriminator_loss(x, x_hat))
    (gradient,) = torch.autograd.grad(loss, next(adversary.parameters()))
    assert bool(gradient.any())


def test_a_frozen_part_of_a_discriminator_stays_frozen() -> None:
    frozen = nn.Conv2d(3, 1, 3).requires_grad_(False)
    adversary = Adversary(discriminator=nn.Sequential(frozen, nn.Conv2d(1, 1, 1)))
    layer = nn.Conv2d(3, 3, 1)
    x_hat = layer(torch.randn(1, 3, 8, 8))
    adversary.generator_gradient(x_hat, torch.ones_like(x_hat), layer.weight)
    assert [p.requires_grad for p in adversary.discriminator.parameters()] == [False, False, True, True]
