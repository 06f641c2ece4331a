"""LPIPS and a style loss as training losses."""

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
    (of_x_hat, power_x_hat), (of_x, power_x) = _statistics(x_hat), _statistics(x.detach())
    floor = 0.1 * power_x.mean(0).sqrt().mean() + 1e-8  # a channel that is silent in both stays weak
    strength = ((power_x_hat.detach() + power_x) / 2).mean(0).sqrt() + floor
    distance = ((of_x_hat - of_x) / strength).norm(dim=-1) / ((of_x / strength).norm(dim=-1) + 1e-8)
    return distance.mean()


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """μ and σ (2, B, C) and second moments (B, C), all float32, of the channels of features (B, C, H, W)."""
    mean, power = x.mean((2, 3), dtype=torch.float32), x.square().mean((2, 3), dtype=torch.float32)
    return torch.stack([mean, ((power - mean.square()).relu() + 1e-8).sqrt()]), power
