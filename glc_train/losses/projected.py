"""A discriminator on frozen features, which learns in a fraction of the steps of one that starts from pixels."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from glc_train.backbones import load_trunk
from glc_train.losses.perceptual import on_device_of

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
        self.networks = (load_trunk("vgg16"),)  # in a tuple: no part of checkpoints and optimisers
        generator = torch.Generator().manual_seed(seed)
        for level, (width, _) in enumerate(_LAYERS):
            for name, into, side in (("channels", width, 1), ("scales", channels, 3)):
                weight = torch.randn(channels, into, side, side, generator=generator) / math.sqrt(into * side**2)
                self.register_buffer(f"mix_{name}_{level}", weight)
        self.judges = nn.ModuleList(_judge(channels, len(_LAYERS) - 1 - level) for level in range(len(_LAYERS)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of pictures x (B, 3, H, W), those of the deepest features first."""
        return self.judge(self.project(x))

    def project(self, x: Tensor) -> list[Tensor]:
        """The frozen part: maps (B, channels, h, w) of pictures x (B, 3, H, W), the deepest first."""
        features = on_device_of(x, self.networks[0])(x)[1:]
        maps: list[Tensor] = []
        for level, (_, strength) in reversed(list(enumerate(_LAYERS))):
            mixed = F.conv2d(features[level], self.get_buffer(f"mix_channels_{level}") / strength)
            if maps:
                mixed = mixed + F.interpolate(maps[-1], size=mixed.shape[-2:], mode="bilinear", align_corners=False)
            maps.append(F.conv2d(mixed, self.get_buffer(f"mix_scales_{level}"), padding=1))
        return maps

    def judge(self, maps: list[Tensor]) -> list[Tensor]:
        """The part that is trained: logits of what `project` gives."""
        return [judge(each) for judge, each in zip(reversed(self.judges), maps, strict=True)]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the trunk and the judges, which `project` and `judge` also run apart."""
        for module in (*self.networks, *self.judges):
            module.compile(*args, **kwargs)


def _judge(channels: int, strided: int) -> nn.Sequential:
    """Network of one projected map: `strided` halvings, then a logit at each place."""
    layers: list[nn.Module] = []
    for _ in range(strided):
        layers += [spectral_norm(nn.Conv2d(channels, channels, 4, 2, padding=1)), nn.LeakyReLU(0.2)]
    layers += [spectral_norm(nn.Conv2d(channels, 2 * channels, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(2 * channels, 1, 3, padding=1)))
