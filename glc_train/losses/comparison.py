"""LPIPS and the style loss between a layer's features of two pictures, with a gradient written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Statistics:
    """Means and second moments (B, C), float32, of the channels of features over a picture."""

    mean: Tensor
    power: Tensor

    def of_style(self) -> Tensor:
        """μ and σ (2, B, C)."""
        return torch.stack([self.mean, ((self.power - self.mean.square()).relu() + 1e-8).sqrt()])


def style_distance(of_x_hat: Statistics, of_x: Statistics) -> Tensor:
    """The `style_loss` of features that have these statistics."""
    floor = 0.1 * of_x.power.mean(0).sqrt().mean() + 1e-8  # a channel that is silent in both stays weak
    strength = ((of_x_hat.power.detach() + of_x.power) / 2).mean(0).sqrt() + floor
    style_x_hat, style_x = of_x_hat.of_style(), of_x.of_style()
    distance = ((style_x_hat - style_x) / strength).norm(dim=-1) / ((style_x / strength).norm(dim=-1) + 1e-8)
    return distance.mean()


@dataclass(frozen=True)
class Original:
    """What a comparison needs of a layer's features of the original picture.

    Attributes:
        weights: (C,), of LPIPS.
        pull: (B, P, C), directions of its features at P places, times these weights.
        constant: mean of Σ weights · direction².
        statistics: for the style loss.
    """

    weights: Tensor
    pull: Tensor
    constant: Tensor
    statistics: Statistics


@torch.no_grad()
def original(features: Tensor, weights: Tensor) -> Original:
    """Of features (B, C, h, w) and LPIPS's weights (C,), float32."""
    x = _by_place(features).float()
    squares = x.square()
    directions = x / (squares.sum(-1, keepdim=True).sqrt() + _EPS)
    pull = directions * weights
    constant = (directions * pull).sum(-1).mean()
    return Original(weights, pull, constant, Statistics(x.mean(1), squares.mean(1)))


def compared(features: Tensor, with_original: Original) -> tuple[Tensor, Tensor]:
    """Mean LPIPS of features (B, C, h, w) and the original's, and their style loss; scalars."""
    distance, mean, power = _Compared.apply(_by_place(features), with_original.weights, with_original.pull)
    return distance + with_original.constant, style_distance(Statistics(mean, power), with_original.statistics)


def _by_place(features: Tensor) -> Tensor:
    """(B, C, h, w) → (B, P, C), of channels-last memory without copying."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


_EPS = 1e-10  # as LPIPS has it


class _Compared(torch.autograd.Function):
    """LPIPS of a layer less its constant, and means and second moments (B, C) of features (B, P, C).

    Written out as Σ wf²/s² − 2 Σ wfd/s with s = |f|, it reads and writes the features, which are large, a few times
    where automatic differentiation does so some thirty times. All in float32: it is a small difference of large sums.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, pull: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = features.float()
        squares = x.square()
        with torch.autocast(x.device.type, enabled=False):
            sums = squares @ torch.stack([torch.ones_like(weights), weights], 1)
        length, weighted = sums.unbind(-1)
        length = length.sqrt() + _EPS
        towards = (x * pull).sum(-1)
        ctx.save_for_backward(features, weights, pull, length, weighted, towards)
        distance = (weighted / length.square() - 2 * towards / length).mean()
        return distance, x.mean(1), squares.mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        features, weights, pull, length, weighted, towards = ctx.saved_tensors
        of_distance, of_mean, of_power = gradients
        pictures, places, _ = features.shape
        share = of_distance * (2 / (pictures * places))
        along = share * (towards - weighted / length) / length**3
        maps = torch.stack([share / length.square(), along], -1)
        factors = torch.stack([weights, torch.ones_like(weights)]).expand(pictures, -1, -1)
        with torch.autocast(maps.device.type, enabled=False):
            out = torch.baddbmm(of_power.unsqueeze(1) * (2 / places), maps, factors)
        out = out.mul_(features).addcmul_(pull, (-share / length).unsqueeze(-1)).add_(of_mean.unsqueeze(1) / places)
        return out.to(features.dtype), None, None
