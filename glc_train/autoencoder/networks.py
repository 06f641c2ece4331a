"""Encoder and decoder of the generative VQ-VAE (VQGAN, Esser et al. 2021; GLC, CVPR 2024, section 3.1)."""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from glc_train.layers import SpatialAttention, conv1x1, conv3x3, norm_layer


def _start_at_zero(conv: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


class ResBlock(nn.Module):
    """Normalisation · swish · 3×3 convolution, twice, with a skip: (B, in, h, w) → (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int | None) -> None:
        super().__init__()
        self.norm1 = norm_layer(in_channels, groups)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = norm_layer(out_channels, groups)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.conv_out = nn.Identity() if in_channels == out_channels else conv1x1(in_channels, out_channels)
        _start_at_zero(self.conv2)  # a deep stack starts as its skips, and learns faster

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


def _dct(size: int, half_shift: float) -> Tensor:
    """(size, size) float64 orthonormal rows: DCT-II (`half_shift` 0) or DCT-IV (0.5)."""
    n = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi / size * (n[None] + 0.5) * (n[:, None] + half_shift)) * (2 / size) ** 0.5
    if not half_shift:
        rows[0] /= 2**0.5
    return rows


def lapped_transform(size: int) -> Tensor:
    """(size, 2·size) float64 rows of an orthonormal lapped transform, `size` even.

    Blocks of `size` samples; each row also sees half a block on either side, so coarse coefficients leave no blocks
    (fast LOT of type II, as the pre-filter and DCT of Tran, Liang & Tu, IEEE TSP 2003).
    """
    half = size // 2
    eye, flip = torch.eye(half, dtype=torch.float64), torch.eye(half, dtype=torch.float64).flip(0)
    butterfly = torch.cat([torch.cat([eye, flip], 1), torch.cat([flip, -eye], 1)]) / 2**0.5
    rotation = flip @ _dct(half, 0.0).t() @ _dct(half, 0.5) @ flip
    prefilter = butterfly @ torch.block_diag(eye, rotation) @ butterfly
    zeros = torch.zeros(half, size, dtype=torch.float64)
    windows = torch.cat([torch.cat([prefilter[half:], zeros], 1), torch.cat([zeros, prefilter[:half]], 1)])
    return _dct(size, 0.0) @ windows


def lapped_kernels(size: int, channels: int) -> Tensor:
    """(channels, 3, 2·size, 2·size) float32 orthonormal kernels of stride `size`: the lowest frequencies of RGB.

    Three quarters of them are of luminance, the others of two opponent colours.

    Raises:
        ValueError: there are not so many frequencies.
    """
    rows = lapped_transform(size)
    order = sorted((u * u + v * v, u, v) for u in range(size) for v in range(size))
    colours = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    colours /= colours.norm(dim=1, keepdim=True)
    opponent = channels // 8
    counts = (channels - 2 * opponent, opponent, opponent)
    if counts[0] > size * size:
        raise ValueError(f"blocks of {size}x{size} pixels have fewer than {channels} frequencies of this mixture")
    kernels = [
        torch.einsum("c,i,j->cij", colour, rows[u], rows[v])
        for colour, count in zip(colours, counts, strict=True)
        for _, u, v in order[:count]
    ]
    return torch.stack(kernels).float()


class _LappedTransform(nn.Module):
    """A linear path between picture and latent, of stride f; starts as a lapped transform.

    Short trainings profit: the networks beside it start from a picture and learn what a linear transform cannot. (The
    idea of shortcuts around an auto-encoder's levels: DC-AE, Chen et al. 2025.)
    """

    scale = 0.25  # of an orthonormal transform; the latent then varies by about 1

    def __init__(self, factor: int, latent_channels: int) -> None:
        super().__init__()
        self.factor = factor
        # A kernel of 2f × 2f pixels at stride f is one of 2 × 2 tiles of f × f pixels, which are channels here.
        kernels = lapped_kernels(factor, latent_channels)
        self.weight = nn.Parameter(rearrange(kernels, "n c (a i) (b j) -> n (c i j) a b", a=2, b=2).contiguous())


class LappedAnalysis(_LappedTransform):
    """(B, 3, f·h, f·w) → (B, N, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.factor // 2,) * 4, mode="replicate")
        return F.conv2d(F.pixel_unshuffle(padded, self.factor), self.scale * self.weight)


class LappedSynthesis(_LappedTransform):
    """(B, N, h, w) → (B, 3, f·h, f·w)."""

    def forward(self, latent: Tensor) -> Tensor:
        padded = F.pad(latent, (1, 1, 1, 1), mode="replicate")
        tiles = F.conv2d(padded, self.weight.transpose(0, 1).flip(2, 3) / self.scale)
        edge = self.factor // 2
        return F.pixel_shuffle(tiles, self.factor)[..., edge:-edge, edge:-edge]


class Encoder(_Stack):
    """Picture (B, 3, H, W) in [-1, 1] → latent (B, N, H/f, W/f), f = patch · 2^(levels − 1).

    Args:
        widths: channels of each level, finest first.
        latent_channels: N.
        res_blocks: residual blocks per level.
        patch: space-to-depth factor before the first convolution (1 in the published model).
        attention: attention at the coarsest level.
        groups: groups of every normalisation; None: `ChannelNorm`.
        shortcut: a `LappedAnalysis` beside the network.
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
        self.shortcut = LappedAnalysis(patch * 2 ** (len(widths) - 1), latent_channels) if shortcut else None
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
        self.shortcut = LappedSynthesis(patch * 2 ** (len(widths) - 1), latent_channels) if shortcut else None
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
