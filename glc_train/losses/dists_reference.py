"""DISTS of many pictures against one, whose features are computed once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glc_train.backbones import load_dists

_STAGES = 5
_FLOOR = 1e-6  # c1 and c2 of DISTS


class DistsLoss:
    """DISTS (Ding et al., TPAMI 2020) as something to lessen; its network is loaded once.

    Raises:
        BackboneError: there are no weights of VGG16.
    """

    def __init__(self) -> None:
        self.network: Any = load_dists().to(memory_format=torch.channels_last)

    def reference(self, x: Tensor) -> DistsReference:
        """What tells the distance to x, (1, 3, H, W) in [-1, 1]."""
        return DistsReference(self.network, x)


class DistsReference:
    """DISTS against a fixed x: the values and gradients of `load_dists` in less than half the time.

    Args:
        network: of `load_dists`.
        x: (1, 3, H, W) in [-1, 1].
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self._network: Any = network.to(x.device)
        with torch.no_grad():
            self._features = self._features_of(x)
            self._moments = [(each.mean(1), each.var(1, correction=0)) for each in self._features]

    def __call__(self, x_hat: Tensor) -> Tensor:
        """The scalar distance of x_hat, (1, 3, H, W) in [-1, 1]."""
        alpha, beta = (each.view(1, -1).split(self._network.chns, 1) for each in self._shares())
        alike = []
        for k, (features, of_x) in enumerate(zip(self._features_of(x_hat), self._features, strict=True)):
            mean, power, product = _Moments.apply(features, of_x)
            mean_x, variance_x = self._moments[k]
            luminance = (2 * mean * mean_x + _FLOOR) / (mean.square() + mean_x.square() + _FLOOR)
            covariance, variance = product - mean * mean_x, power - mean.square()
            structure = (2 * covariance + _FLOOR) / (variance + variance_x + _FLOOR)
            alike.append((alpha[k] * luminance + beta[k] * structure).sum())
        return 1 - torch.stack(alike).sum()

    def _shares(self) -> tuple[Tensor, Tensor]:
        alpha, beta = self._network.alpha, self._network.beta
        total = alpha.sum() + beta.sum()
        return alpha / total, beta / total

    def _features_of(self, x: Tensor) -> list[Tensor]:
        """Of the picture itself and of each stage, (1, P, C) for its P positions."""
        x = ((x + 1) / 2).contiguous(memory_format=torch.channels_last)
        maps = [x]
        for stage in range(1, _STAGES + 1):
            inner = (x - self._network.mean) / self._network.std if stage == 1 else maps[-1]
            maps.append(self._network.get_submodule(f"stage{stage}")(inner))
        return [each.permute(0, 2, 3, 1).flatten(1, 2) for each in maps]


class _Moments(torch.autograd.Function):
    """Means of f, f² and f·g (1, C) over the P positions of features f and g (1, P, C); g gets no gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, of_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(features, of_x)
        return features.mean(1), features.square().mean(1), (features * of_x).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        features, of_x = ctx.saved_tensors
        of_mean, of_power, of_product = (each / features.shape[1] for each in gradients)
        return torch.addcmul(of_mean, features, 2 * of_power).addcmul_(of_x, of_product), None
