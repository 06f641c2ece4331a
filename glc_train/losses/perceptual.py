"""LPIPS and a style loss as training losses."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from glc_train.backbones import BackboneName, load_trunk, lpips_weights

_TRUNKS: dict[str, BackboneName] = {"alex": "alexnet", "vgg": "vgg16"}


class PerceptualNetwork(nn.Module):
    """LPIPS (Zhang et al., CVPR 2018, version 0.1) and style loss on the same frozen features.

    Written for training: nothing of it but convolutions is more than a sum over channels or places, so that
    `torch.compile` makes few kernels of it.

    Args:
        net: see `PerceptualLoss`.
    """

    def __init__(self, net: Literal["alex", "vgg"]) -> None:
        super().__init__()
        self.trunk = load_trunk(_TRUNKS[net])
        for layer, weight in enumerate(lpips_weights(net)):
            self.register_buffer(f"weight_{layer}", weight)

    def forward(self, x_hat: Tensor, x: Tensor, style: bool = False) -> tuple[Tensor, Tensor | None]:
        """Mean LPIPS of x_hat and x (B, 3, H, W) in [-1, 1], and with `style` their `style_loss`, mean over layers."""
        pairs = list(zip(self.trunk(x_hat), self.trunk(x), strict=True))
        lpips = [_distance(*pair, self.get_buffer(f"weight_{layer}")) for layer, pair in enumerate(pairs)]
        styles = [style_loss(*pair) for pair in pairs] if style else None
        return torch.stack(lpips).sum(), None if styles is None else torch.stack(styles).mean()


def _distance(x_hat: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Mean over pictures and places of the weighted squared distance of normalised features (B, C, h, w)."""
    difference = _normalised(x_hat) - _normalised(x)
    return (difference.square() * weight).sum(1).mean()


def _normalised(x: Tensor) -> Tensor:
    x = x.float()
    # Within the root, or a place where nothing is active would have no gradient but NaN.
    return x * (x.square().sum(1, keepdim=True) + 1e-20).rsqrt()


class PerceptualLoss:
    """Mean LPIPS of pictures in [-1, 1], which LPIPS normalises itself.

    Not a module: its frozen backbone stays out of checkpoints and optimisers.

    Args:
        net: "alex" (about six times cheaper) or "vgg" (what the papers train with).

    Raises:
        BackboneError: there are no weights of the backbone.
    """

    def __init__(self, net: Literal["alex", "vgg"] = "alex") -> None:
        self.network = PerceptualNetwork(net)

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Scalar mean LPIPS of x_hat and x, (B, 3, H, W) in [-1, 1]."""
        lpips: Tensor = on_device_of(x, self.network)(x_hat, x)[0]
        return lpips

    def with_style(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `__call__`, and the `style_loss` of the features that LPIPS compares, averaged over its five layers."""
        both: tuple[Tensor, Tensor] = on_device_of(x, self.network)(x_hat, x, style=True)
        return both


def on_device_of(x: Tensor, network: nn.Module) -> nn.Module:
    """The frozen network, moved to where x is: it is no part of the stage, which Lightning moves."""
    return network if next(network.parameters()).device == x.device else network.to(x.device)


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
