"""Encoder and decoder of the generative VQ-VAE (VQGAN, Esser et al. 2021; GLC, CVPR 2024, section 3.1)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from glc_train.layers import SpatialAttention, conv1x1, conv3x3, norm_layer


class ResBlock(nn.Module):
    """Normalisation · swish · 3×3 convolution, twice, with a skip: (B, in, h, w) → (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int | None) -> None:
        super().__init__()
        self.norm1 = norm_layer(in_channels, groups)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = norm_layer(out_channels, groups)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.conv_out = nn.Identity() if in_channels == out_channels else conv1x1(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.silu(self.norm1(x)))
        out = self.conv2(F.silu(self.norm2(out)))
        skip: Tensor = self.conv_out(x)
        return skip + out


class Downsample(nn.Module):
    """Halves a map by a strided 3×3 convolution, padded by one zero row and column at the right and bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Doubles a map: nearest neighbour, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class _Stack(nn.Module):
    """Blocks in sequence; attention gets the window; with `checkpointing`, activations are recomputed in training."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpointing = False

    def run(self, x: Tensor, window: int | None) -> Tensor:
        for block in self.blocks:
            args = (x, window) if isinstance(block, SpatialAttention) else (x,)
            if self.checkpointing and self.training and x.requires_grad:
                x = checkpoint(block, *args, use_reentrant=False)
            else:
                x = block(*args)
        return x


def _bottleneck(width: int, groups: int | None, attention: bool) -> list[nn.Module]:
    middle: list[nn.Module] = [SpatialAttention(width, groups)] if attention else []
    return [ResBlock(width, width, groups), *middle, ResBlock(width, width, groups)]


def dct_basis(size: int, channels: int) -> Tensor:
    """(channels, 3·size²) orthonormal rows: the lowest frequencies of the DCT-II of RGB blocks of size × size.

    Three quarters of them are of luminance, the others of two opponent colours; columns as `nn.PixelUnshuffle` orders
    them, by colour, row, column.
    """
    n = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi / size * (n[None] + 0.5) * n[:, None]) * (2 / size) ** 0.5
    waves[0] /= 2**0.5
    order = sorted((u * u + v * v, u, v) for u in range(size) for v in range(size))
    colours = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    colours /= colours.norm(dim=1, keepdim=True)
    opponent = channels // 8
    counts = (channels - 2 * opponent, opponent, opponent)
    if counts[0] > size * size:
        raise ValueError(f"blocks of {size}x{size} pixels have fewer than {channels} frequencies of this mixture")
    rows = [
        torch.einsum("c,i,j->cij", colour, waves[u], waves[v]).flatten()
        for colour, count in zip(colours, counts, strict=True)
        for _, u, v in order[:count]
    ]
    return torch.stack(rows).float()


class _BlockTransform(nn.Module):
    """A linear path between picture and latent, one matrix for each block of f × f pixels; starts as a DCT.

    Short trainings profit: the networks beside it start from a picture and learn what a DCT cannot. (The idea of
    shortcuts around an auto-encoder's levels: DC-AE, Chen et al. 2025.)
    """

    scale = 0.25  # of an orthonormal transform; the latent then varies by about 1

    def __init__(self, factor: int, latent_channels: int) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(dct_basis(factor, latent_channels))


class BlockAnalysis(_BlockTransform):
    """(B, 3, f·h, f·w) → (B, N, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(x, self.factor)
        return F.conv2d(blocks, self.scale * self.weight[:, :, None, None])


class BlockSynthesis(_BlockTransform):
    """(B, N, h, w) → (B, 3, f·h, f·w)."""

    def forward(self, latent: Tensor) -> Tensor:
        blocks = F.conv2d(latent, self.weight.t()[:, :, None, None] / self.scale)
        return F.pixel_shuffle(blocks, self.factor)


def _start_at_zero(conv: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


class Encoder(_Stack):
    """Picture (B, 3, H, W) in [-1, 1] → latent (B, N, H/f, W/f), f = patch · 2^(levels − 1).

    Args:
        widths: channels of each level, finest first.
        latent_channels: N.
        res_blocks: residual blocks per level.
        patch: space-to-depth factor before the first convolution (1 in the published model).
        attention: attention at the coarsest level.
        groups: groups of every normalisation; None: `ChannelNorm`.
        shortcut: a `BlockAnalysis` beside the network.
    """

    def __init__(
        self,
        widths: Sequence[int],
        latent_channels: int,
        res_blocks: int,
        patch: int,
        attention: bool,
        groups: int | None,
        shortcut: bool,
    ) -> None:
        blocks: list[nn.Module] = [conv3x3(3 * patch**2, widths[0])]
        before = widths[0]
        for level, width in enumerate(widths):
            coarsest = level == len(widths) - 1
            for _ in range(res_blocks):
                blocks.append(ResBlock(before, width, groups))
                if coarsest and attention:
                    blocks.append(SpatialAttention(width, groups))
                before = width
            if not coarsest:
                blocks.append(Downsample(width))
        blocks += _bottleneck(before, groups, attention)
        blocks += [norm_layer(before, groups), nn.SiLU(), conv3x3(before, latent_channels)]
        super().__init__(blocks)
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.quant_conv = conv1x1(latent_channels, latent_channels)
        self.shortcut = BlockAnalysis(patch * 2 ** (len(widths) - 1), latent_channels) if shortcut else None
        if shortcut:
            _start_at_zero(self.quant_conv)

    def forward(self, x: Tensor, window: int | None = None) -> Tensor:
        """`window`: side of the attention windows, `None` for attention over the whole map."""
        latent: Tensor = self.quant_conv(self.run(self.unshuffle(x), window))
        return latent if self.shortcut is None else latent + self.shortcut(x)


class Decoder(_Stack):
    """Latent (B, N, h, w) → picture (B, 3, f·h, f·w), about [-1, 1], not clamped. Arguments as in `Encoder`."""

    def __init__(
        self,
        widths: Sequence[int],
        latent_channels: int,
        res_blocks: int,
        patch: int,
        attention: bool,
        groups: int | None,
        shortcut: bool,
    ) -> None:
        before = widths[-1]
        blocks: list[nn.Module] = [conv3x3(latent_channels, before), *_bottleneck(before, groups, attention)]
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(res_blocks):
                blocks.append(ResBlock(before, width, groups))
                if level == len(widths) - 1 and attention:
                    blocks.append(SpatialAttention(width, groups))
                before = width
            if level:
                blocks.append(Upsample(width))
        blocks += [norm_layer(before, groups), nn.SiLU(), conv3x3(before, 3 * patch**2)]
        super().__init__(blocks)
        self.post_quant_conv = conv1x1(latent_channels, latent_channels)
        self.shuffle = nn.PixelShuffle(patch)
        self.shortcut = BlockSynthesis(patch * 2 ** (len(widths) - 1), latent_channels) if shortcut else None
        if shortcut:
            _start_at_zero(self.blocks[-1])

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last convolution, where the adaptive GAN weight is measured."""
        conv = self.blocks[-1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(conv.weight, nn.Parameter)
        return conv.weight

    def forward(self, latent: Tensor, window: int | None = None) -> Tensor:
        """`window`: side of the attention windows, `None` for attention over the whole map."""
        picture: Tensor = self.shuffle(self.run(self.post_quant_conv(latent), window))
        return picture if self.shortcut is None else picture + self.shortcut(latent)
