"""LPIPS and a style loss as training losses."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from glc_train.backbones import BackboneName, load_trunk, lpips_weights
from glc_train.losses.comparison import Original, Statistics, compared, original, style_distance

_TRUNKS: dict[str, BackboneName] = {"alex": "alexnet", "vgg": "vgg16"}


class PerceptualNetwork(nn.Module):
    """LPIPS (Zhang et al., CVPR 2018, version 0.1) and style loss on the same frozen features.

    Args:
        net: see `PerceptualLoss`.
    """

    def __init__(self, net: Literal["alex", "vgg"]) -> None:
        super().__init__()
        self.trunk = load_trunk(_TRUNKS[net])
        for layer, weight in enumerate(lpips_weights(net)):
            self.register_buffer(f"weight_{layer}", weight.flatten())

    def originals(self, x: Tensor) -> list[Original]:
        """What `compare` needs of pictures x (B, 3, H, W) in [-1, 1], layer by layer."""
        with torch.no_grad():
            found = self.trunk(x)
        return [original(features, self.get_buffer(f"weight_{layer}")) for layer, features in enumerate(found)]

    def compare(self, x_hat: Tensor, originals: Sequence[Original]) -> tuple[Tensor, Tensor]:
        """Mean LPIPS of x_hat (B, 3, H, W) and the originals, and their `style_loss`, mean over the layers; scalars."""
        layers = [compared(*pair) for pair in zip(self.trunk(x_hat), originals, strict=True)]
        return torch.stack([lpips for lpips, _ in layers]).sum(), torch.stack([style for _, style in layers]).mean()

    def forward(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of x_hat and x, (B, 3, H, W) in [-1, 1], as `compare`."""
        return self.compare(x_hat, self.originals(x))


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
        both: tuple[Tensor, Tensor] = on_device_of(x, self.network)(x_hat, x)
        return both

    def reference(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """What tells the LPIPS of many pictures x_hat and x, (1, 3, H, W) in [-1, 1], whose features it keeps."""
        on_device_of(x, self.network)
        originals = self.network.originals(x)
        return lambda x_hat: self.network.compare(x_hat, originals)[0]


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


def _statistics(x: Tensor) -> Statistics:
    return Statistics(x.mean((2, 3), dtype=torch.float32), x.square().mean((2, 3), dtype=torch.float32))
