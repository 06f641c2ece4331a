"""LPIPS and a style loss as training losses."""

from typing import Literal

import torch
from einops import rearrange
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
        """As `__call__`, and the mean `style_loss` of the features that LPIPS compares, without its last layer's.

        With VGG16 these are the layers of Johnson et al. (ECCV 2016). In the last, crops have fewer positions than
        channels: the gradient of its Gram matrix is larger than the others' and points elsewhere in every batch.
        """
        features: list[Tensor] = []  # of x_hat, then of x
        trunk = self.network.get_submodule("net")
        layers = [module for name, module in trunk.named_children() if name.startswith("slice")][:-1]
        hooks = [layer.register_forward_hook(lambda module, args, output: features.append(output)) for layer in layers]
        try:
            lpips = self(x_hat, x)
        finally:
            for hook in hooks:
                hook.remove()
        pairs = zip(features[: len(layers)], features[len(layers) :], strict=True)
        return lpips, torch.stack([style_loss(of_x_hat, of_x) for of_x_hat, of_x in pairs]).mean()


def style_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """Scalar mean of ‖G(x_hat) - G(x)‖ / ‖G(x)‖ over the pictures, G the Gram matrix of the features.

    It asks for the same texture, wherever the details lie (Gatys et al., CVPR 2016; as a loss for restoration: Sajjadi
    et al., ICCV 2017). Channels are first brought to the same strength over both batches: without it the few strong
    ones would be all of G, and with the strength of x alone those that are silent in x and not in x_hat.

    Args:
        x_hat, x: features (B, C, H, W); x gets no gradient.
    """
    with torch.autocast(x.device.type, enabled=False):
        # Of the features as they are, one pixel after the other: quick in bfloat16 and channels-last.
        x_hat, x = (rearrange(f, "b c h w -> b (h w) c") for f in (x_hat, x.detach()))
        of_x_hat, of_x = ((f.mT @ f).float() / f.shape[1] for f in (x_hat, x))
        power_x_hat, power_x = (gram.detach().diagonal(dim1=1, dim2=2).mean(0) for gram in (of_x_hat, of_x))
        floor = 0.1 * power_x.sqrt().mean() + 1e-8  # a channel that is silent in both stays weak
        strength = ((power_x_hat + power_x) / 2).sqrt() + floor
        of_x_hat, of_x = (gram / strength / strength[:, None] for gram in (of_x_hat, of_x))
        distance = torch.linalg.matrix_norm(of_x_hat - of_x) / (torch.linalg.matrix_norm(of_x) + 1e-8)
        return distance.mean()
