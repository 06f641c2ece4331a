"""Patch discriminator (Isola et al. 2017), as used by VQGAN."""

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

DiscriminatorNorm = Literal["group", "spectral"]


class PatchDiscriminator(nn.Module):
    """Picture (B, 3, H, W) in [-1, 1] → map of logits (B, 1, h', w'), positive for real.

    Args:
        channels: width of the first layer; doubles at each further one, at most eightfold.
        layers: strided layers.
        norm: "group" normalises the activations; as these statistics are of the whole picture, a generator may learn to
            sway them with a bright spot in one place. "spectral" normalises the weights instead (Miyato et al. 2018; so
            HiFiC, Mentzer et al. 2020).

    Raises:
        ValueError: `norm` is neither of its two values.
    """

    def __init__(self, channels: int = 64, layers: int = 4, norm: DiscriminatorNorm = "group") -> None:
        super().__init__()
        if norm not in get_args(DiscriminatorNorm):
            raise ValueError(f"the discriminator's norm must be {' or '.join(get_args(DiscriminatorNorm))}, not {norm}")
        group = norm == "group"

        def conv(into: int, out: int, stride: int, bias: bool = True) -> nn.Module:
            layer = nn.Conv2d(into, out, 4, stride, padding=1, bias=bias)
            return layer if group else spectral_norm(layer)

        blocks: list[nn.Module] = [conv(3, channels, 2), nn.LeakyReLU(0.2)]
        before = channels
        for layer in range(1, layers + 1):
            width = channels * min(2**layer, 8)
            blocks.append(conv(before, width, 2 if layer < layers else 1, bias=not group))
            if group:  # not batch: no statistics to share between ranks, none that depend on the batch
                blocks.append(nn.GroupNorm(min(32, width // 4), width))
            blocks.append(nn.LeakyReLU(0.2))
            before = width
        self.net = nn.Sequential(*blocks, conv(before, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits
