"""A discriminator on frozen features, which learns in a fraction of the steps of one that starts from pixels."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from glc_train.backbones import load_lpips

# Of relu2_2, relu3_3, relu4_3, relu5_3: the channels, and the root mean square of the activations on photographs, which
# brings them to about 1.
_LAYERS = ((128, 2.2), (256, 2.4), (512, 1.2), (512, 0.7))


class ProjectedDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] → four maps of logits (B, 1, H/16, W/16), positive for real.

    Projected GAN (Sauer et al., NeurIPS 2021) on VGG16: features of four depths are mixed over channels (1×1) and, from
    the deepest up, over scales (3×3) by random convolutions that stay as they are; a small network with spectral
    normalisation judges each of the four.

    Args:
        channels: of each projected map.
        seed: of the random projections.

    Raises:
        BackboneError: there are no weights of VGG16.
    """

    def __init__(self, channels: int = 64, seed: int = 0) -> None:
        super().__init__()
        self._lpips = (load_lpips("vgg"),)  # in a tuple: no part of checkpoints and optimisers
        generator = torch.Generator().manual_seed(seed)
        for level, (width, _) in enumerate(_LAYERS):
            for name, into, side in (("channels", width, 1), ("scales", channels, 3)):
                weight = torch.randn(channels, into, side, side, generator=generator) / math.sqrt(into * side**2)
                self.register_buffer(f"mix_{name}_{level}", weight)
        self.judges = nn.ModuleList(_judge(channels, len(_LAYERS) - 1 - level) for level in range(len(_LAYERS)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of pictures x (B, 3, H, W), those of the deepest features first."""
        features = self._features(x)
        logits: list[Tensor] = []
        coarser: Tensor | None = None
        for level in reversed(range(len(features))):
            mixed = F.conv2d(features[level], self.get_buffer(f"mix_channels_{level}"))
            if coarser is not None:
                mixed = mixed + F.interpolate(coarser, size=mixed.shape[-2:], mode="bilinear", align_corners=False)
            coarser = F.conv2d(mixed, self.get_buffer(f"mix_scales_{level}"), padding=1)
            logits.append(self.judges[level](coarser))
        return logits

    def _features(self, x: Tensor) -> list[Tensor]:
        """Activations of the four layers, of about unit strength, for x (B, 3, H, W) in [-1, 1]."""
        lpips: Any = self._lpips[0].to(x.device)
        found = lpips.net(lpips.scaling_layer(x))[1:]
        return [features / strength for features, (_, strength) in zip(found, _LAYERS, strict=True)]


def _judge(channels: int, strided: int) -> nn.Sequential:
    """Network of one projected map: `strided` halvings, then a logit at each place."""
    layers: list[nn.Module] = []
    for _ in range(strided):
        layers += [spectral_norm(nn.Conv2d(channels, channels, 4, 2, padding=1)), nn.LeakyReLU(0.2)]
    layers += [spectral_norm(nn.Conv2d(channels, 2 * channels, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(2 * channels, 1, 3, padding=1)))
