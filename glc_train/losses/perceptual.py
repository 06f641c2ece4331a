"""LPIPS and a style loss as training losses."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glc_train.backbones import load_lpips


class PerceptualLoss:
    """Mean LPIPS of pictures in [-1, 1], which LPIPS normalises itself.

    Not a module: its frozen backbone stays out of checkpoints and optimisers.

    Args:
        net: "alex" (about six times cheaper) or "vgg" (what the papers train with).
    """

    def __init__(self, net: Literal["alex", "vgg"] = "alex") -> None:
        self.network = load_lpips(net).to(memory_format=torch.channels_last)

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Scalar mean LPIPS of x_hat and x, (B, 3, H, W) in [-1, 1]."""
        self.network.to(x.device)
        value: Tensor = self.network(x_hat, x)
        return value.float().mean()

    def with_style(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `__call__`, and the `style_loss` of the features that LPIPS compares, averaged over its five layers."""
        features: list[Tensor] = []  # of x_hat, then of x
        trunk = self.network.get_submodule("net")
        layers = [module for name, module in trunk.named_children() if name.startswith("slice")]
        hooks = [layer.register_forward_hook(lambda module, args, output: features.append(output)) for layer in layers]
        try:
            lpips = self(x_hat, x)
        finally:
            for hook in hooks:
                hook.remove()
        pairs = zip(features[: len(layers)], features[len(layers) :], strict=True)
        return lpips, torch.stack([style_loss(of_x_hat, of_x) for of_x_hat, of_x in pairs]).mean()


def style_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """Scalar (‖μ(x_hat) - μ(x)‖ / ‖μ(x)‖ + ‖σ(x_hat) - σ(x)‖ / ‖σ(x)‖) / 2, averaged over the pictures.

    μ and σ are the means and standard deviations of the features' channels over a picture, which carry its style (Huang
    and Belongie, ICCV 2017, equation 13): it asks for the same texture, wherever the details lie. Channels are first
    brought to the same strength over both batches, or the few strong ones would be all of it. Gram matrices (Gatys et
    al., CVPR 2016) ask for more, but of a deep layer a crop has fewer positions than channels, and most of their
    gradient is noise.

    Args:
        x_hat, x: features (B, C, H, W); x gets no gradient.
    """
    return style_distance(_statistics(x_hat), _statistics(x.detach()))


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


def _statistics(x: Tensor) -> Statistics:
    return Statistics(x.mean((2, 3), dtype=torch.float32), x.square().mean((2, 3), dtype=torch.float32))
