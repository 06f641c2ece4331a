"""The texture loss compares strength of texture, not pixels."""

import pytest
import torch

from glc_train.losses import texture_loss
from glc_train.training import Draws, PictureLoss


def _noise(seed: int, strength: float = 0.2) -> torch.Tensor:
    return strength * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(seed))


def test_equal_pictures_have_none() -> None:
    assert float(texture_loss(_noise(0), _noise(0))) == 0


def test_other_noise_of_the_same_strength_costs_much_less_than_none_or_too_much() -> None:
    x = _noise(0)
    other, none, double = (float(texture_loss(y, x)) for y in (_noise(1), torch.zeros_like(x), _noise(1, 0.4)))
    assert 4 * other < none
    assert 4 * other < double


def test_place_counts() -> None:
    left = _noise(0) * (torch.arange(128) < 64)
    assert float(texture_loss(left.flip(-1), left)) > 4 * float(
        texture_loss(_noise(1) * (torch.arange(128) < 64), left)
    )


def test_a_constant_does_not_count_and_every_octave_does() -> None:
    plain = torch.zeros(1, 1, 128, 128)
    assert float(texture_loss(plain + 0.5, plain)) == pytest.approx(0, abs=1e-6)
    for period in (2, 4, 8):
        stripes = 0.1 * ((torch.arange(128) // (period // 2)) % 2 * 2.0 - 1).expand(1, 1, 128, 128)
        assert float(texture_loss(stripes, plain)) > 0.01
        assert float(texture_loss(stripes, plain, scales=1)) == pytest.approx(float(texture_loss(plain, stripes, 1)))


def test_gradient_is_finite_on_plain_surfaces_and_points_away_from_a_pattern() -> None:
    plain, pattern = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    pattern[..., ::2, ::2] = 0.1
    for start in (plain, pattern):
        x_hat = start.clone().requires_grad_()
        texture_loss(x_hat, plain).backward()
        assert x_hat.grad is not None
        assert bool(x_hat.grad.isfinite().all())
    assert x_hat.grad is not None
    step = x_hat.detach() - 10 * x_hat.grad
    assert float(texture_loss(step, plain)) < float(texture_loss(pattern, plain))


def test_it_is_a_term_of_the_picture_loss() -> None:
    x_hat, x = _noise(0), _noise(1, 0.4)
    total, terms = PictureLoss(l1=0.0, lpips=0.0, texture=3.0)(x_hat, x, Draws(0, 0, 0, 1))
    assert float(total) == pytest.approx(3 * float(terms["loss/texture"]))
    assert float(terms["loss/texture"]) == pytest.approx(float(texture_loss(x_hat, x)))
