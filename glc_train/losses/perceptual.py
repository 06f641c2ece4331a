"""LPIPS as a training loss."""

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
