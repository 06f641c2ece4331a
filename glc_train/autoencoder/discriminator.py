"""Patch discriminator (Isola et al. 2017), as used by VQGAN."""

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Picture (B, 3, H, W) in [-1, 1] → map of logits (B, 1, h', w'), positive for real.

    Args:
        channels: width of the first layer; doubles at each further one, at most eightfold.
        layers: strided layers.
    """

    def __init__(self, channels: int = 64, layers: int = 4) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        before = channels
        for layer in range(1, layers + 1):
            width = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            # Group instead of batch normalisation: no statistics to share between ranks, none that depend on the batch.
            blocks += [
                nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(min(32, width // 4), width),
                nn.LeakyReLU(0.2),
            ]
            before = width
        self.net = nn.Sequential(*blocks, nn.Conv2d(before, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits
