"""A fixed picture to compare with: the values and gradients of LPIPS and DISTS as their authors compute them."""

from typing import Literal

import pytest
import torch

from glc_train.backbones import load_lpips
from glc_train.losses import DistsLoss, PerceptualLoss


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_a_reference_gives_the_values_and_gradients_of_lpips(net: Literal["alex", "vgg"]) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, 80, 64, generator=generator) * 2 - 1
    lpips, reference = load_lpips(net), PerceptualLoss(net).reference(x)
    for strength in (0.5, 0.05):
        x_hat = (x + strength * torch.randn(x.shape, generator=generator)).requires_grad_()
        found, wanted = reference(x_hat), lpips(x_hat, x).mean()
        assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
        gradients = [torch.autograd.grad(each, x_hat)[0] for each in (found, wanted)]
        assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-3
    assert abs(float(reference(x))) < 1e-6


def test_features_of_zero_have_a_gradient_that_is_a_number() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x_hat = torch.zeros_like(x).requires_grad_()
    lpips, style = PerceptualLoss("alex").with_style(x_hat, x)
    (gradient,) = torch.autograd.grad(lpips + style, x_hat)
    assert bool(gradient.isfinite().all())


def test_a_reference_gives_the_values_and_gradients_of_dists() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(1, 3, 80, 64, generator=generator) * 2 - 1
    loss = DistsLoss()
    reference = loss.reference(x)
    for strength in (0.5, 0.05):
        x_hat = (x + strength * torch.randn(x.shape, generator=generator)).requires_grad_()
        wanted = loss.network((x_hat + 1) / 2, (x + 1) / 2, require_grad=True)
        found = reference(x_hat)
        assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-4)
        gradients = [torch.autograd.grad(each, x_hat)[0] for each in (found, wanted)]
        assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-2
    assert abs(float(reference(x))) < 1e-5
