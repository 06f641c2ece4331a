"""LPIPS and the style loss of many pictures against one, whose features are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glc_train.losses.perceptual import PerceptualLoss, Statistics, style_distance


@dataclass(frozen=True)
class _Layer:
    """What is kept of the original."""

    weights: Tensor  # (C,), of LPIPS
    pull: Tensor  # (1, P, C), directions of its features, times these weights
    constant: Tensor  # mean of Σ weights · direction²
    statistics: Statistics


class PerceptualReference:
    """`PerceptualLoss.with_style` against a fixed x: the same values and gradients in about half the time.

    Args:
        loss: whose network is used.
        x: (1, 3, H, W) in [-1, 1].
    """

    def __init__(self, loss: PerceptualLoss, x: Tensor) -> None:
        self._network = loss.network.to(x.device)
        with torch.no_grad():
            self._layers = [self._prepared(number, each) for number, each in enumerate(self._features(x))]

    def __call__(self, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """LPIPS and style loss of x_hat, (1, 3, H, W) in [-1, 1]; scalars."""
        lpips, style = [], []
        for features, layer in zip(self._features(x_hat), self._layers, strict=True):
            distance, mean, power = _Compared.apply(features, layer.weights, layer.pull)
            lpips.append(distance + layer.constant)
            style.append(style_distance(Statistics(mean, power), layer.statistics))
        return torch.stack(lpips).sum(), torch.stack(style).mean()

    def _features(self, x: Tensor) -> list[Tensor]:
        """Of each layer, (1, P, C) for its P positions."""
        maps = self._network.trunk(x.contiguous(memory_format=torch.channels_last))
        return [each.permute(0, 2, 3, 1).flatten(1, 2) for each in maps]

    def _prepared(self, number: int, features: Tensor) -> _Layer:
        weights = self._network.get_buffer(f"weight_{number}").flatten()
        directions = features / (features.norm(dim=-1, keepdim=True) + _EPS)
        pull = directions * weights
        power = features.square().mean(1)
        return _Layer(weights, pull, (directions * pull).sum(-1).mean(), Statistics(features.mean(1), power))


_EPS = 1e-10  # as LPIPS has it


class _Compared(torch.autograd.Function):
    """LPIPS of a layer less its constant, and means and second moments (1, C) of features (1, P, C).

    Written out as Σ wf²/s² − 2 Σ wfd/s with s = |f|, it reads and writes the features, which are large, a few times
    where automatic differentiation does so some thirty times.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, pull: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        squares = features.square()
        length, weighted = (squares @ torch.stack([torch.ones_like(weights), weights], 1)).unbind(-1)
        length = length.sqrt() + _EPS
        towards = (features * pull).sum(-1)
        ctx.save_for_backward(features, weights, pull, length, weighted, towards)
        distance = (weighted / length.square() - 2 * towards / length).mean()
        return distance, features.mean(1), squares.mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        features, weights, pull, length, weighted, towards = ctx.saved_tensors
        of_distance, of_mean, of_power = gradients
        count = features.shape[1]
        share = of_distance * 2 / count
        along = share * (towards - weighted / length) / length**3
        maps = torch.stack([share / length.square(), along], -1)
        factors = torch.stack([weights, torch.ones_like(weights)])
        out = torch.addmm(of_power * (2 / count), maps[0], factors)
        out.mul_(features[0]).addcmul_(pull[0], (-share / length[0]).unsqueeze(-1)).add_(of_mean / count)
        return out.unsqueeze(0), None, None
