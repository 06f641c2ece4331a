"""Modules of the image transform codec (GLC, CVPR 2024, sections 3.2 and 3.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glc_train.layers import Up2, block_a, block_b, by_rows, conv1x1, conv3x3, reach

STEP_MIN = 0.5  # smallest quantisation step


class GainTransform(nn.Module):
    """Analysis or synthesis: blocks, one gain per channel and quality, blocks. (B, in, h, w) → (B, out, h, w).

    Args:
        in_channels, out_channels: of the transform.
        quality_levels: rows of the gain.
        depth: blocks in each half.
        gains: initial gains of the lowest and the highest quality, interpolated geometrically.
        block: kind of the blocks; published B for images, C for video.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        quality_levels: int,
        depth: int,
        gains: tuple[float, float],
        block: Callable[..., nn.Sequential] = block_b,
    ) -> None:
        super().__init__()
        width = out_channels
        self.first = nn.Sequential(block(in_channels, width), *(block(width) for _ in range(depth - 1)))
        low, high = gains
        gains_of = [low * (high / low) ** (index / max(1, quality_levels - 1)) for index in range(quality_levels)]
        self.gain = nn.Parameter(torch.tensor(gains_of).view(-1, 1, 1, 1).expand(-1, width, 1, 1).contiguous())
        self.second = nn.Sequential(*(block(width) for _ in range(depth)))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """`quality`: (B,) int64 in [0, quality_levels)."""
        return by_rows(lambda part: self.second(self.first(part) * self.gain[quality]), reach(self), x)


@dataclass(frozen=True)
class PriorParameters:
    """Parameters of the Gaussian model, each (B, C, h, w); `step` ≥ 0.5. `raw` (B, 3C, h, w): before clamping."""

    step: Tensor
    scale: Tensor
    mean: Tensor
    raw: Tensor


def split_parameters(raw: Tensor) -> PriorParameters:
    """Splits (B, 3C, h, w) into step, scale, mean."""
    step, scale, mean = raw.chunk(3, dim=1)
    return PriorParameters(step.clamp_min(STEP_MIN), scale, mean, raw)


def hyper_analysis(channels: int, hyper_channels: int) -> nn.Sequential:
    """y (B, C, h, w) → z (B, Cz, h/4, w/4)."""
    return nn.Sequential(
        block_a(channels),
        conv3x3(channels, hyper_channels, stride=2),
        nn.LeakyReLU(0.01),
        conv3x3(hyper_channels, hyper_channels, stride=2),
    )


def start_at_one(blocks: nn.Sequential, channels: int) -> None:
    """Sets the last bias of a sequence of blocks to 1 for its first `channels` outputs."""
    bias = blocks[-1].get_submodule("1.conv_out").bias
    assert isinstance(bias, nn.Parameter)
    with torch.no_grad():
        bias[:channels] = 1.0


class HyperSynthesis(nn.Module):
    """Quantised z (B, Cz, h/4, w/4) → raw parameters (B, 3C, h, w)."""

    def __init__(self, hyper_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(Up2(hyper_channels, hyper_channels), Up2(hyper_channels, channels))
        self.refine = block_a(channels)
        self.fusion = nn.Sequential(block_a(channels, 2 * channels), block_a(2 * channels, 3 * channels))
        # Steps and scales start at 1: below their bounds they would get no gradient.
        start_at_one(self.fusion, 2 * channels)

    def forward(self, z_hat: Tensor) -> Tensor:
        # Rows of z: the convolutions look 1/2 row far after the first doubling, and 1/4 each after the second.
        return by_rows(lambda part: self.fusion(self.refine(self.upsample(part))), 2, z_hat, scale=(4, 1))


class FourPartContext(nn.Module):
    """Parameters of passes 1 to 3 from what has been decoded (GLC, CVPR 2024, section 3.2; quadtree of DCVC-DC).

    Args:
        channels: C of y.
        depth: blocks A shared by the passes.
    """

    passes = 4

    def __init__(self, channels: int, depth: int = 3) -> None:
        super().__init__()
        self.reduction = conv1x1(3 * channels, channels)
        self.adaptors = nn.ModuleList(block_a(2 * channels) for _ in range(self.passes - 1))
        self.shared = nn.Sequential(*(block_a(2 * channels) for _ in range(depth)))
        start_at_one(self.shared, channels)

    def forward(self, k: int, decoded: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and mean (B, C, h, w) of pass k ≥ 1.

        Args:
            k: the pass.
            decoded: (B, C, h, w) values so far, 0 where there is none yet.
            reduced: (B, C, h, w), `reduction` of the raw parameters.
        """
        adaptor = self.adaptors[k - 1]

        def both(*maps: Tensor) -> Tensor:
            out: Tensor = self.shared(adaptor(torch.cat(maps, dim=1)))
            return out

        scale, mean = by_rows(both, reach(adaptor, self.shared), decoded, reduced).chunk(2, dim=1)
        return scale, mean
