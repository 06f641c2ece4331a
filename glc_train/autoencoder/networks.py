"""Encoder and decoder of the generative VQ-VAE (VQGAN, Esser et al. 2021; GLC, CVPR 2024, section 3.1)."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glc_train.layers import (
    Conv1x1,
    Conv3x3,
    GroupNorm,
    SpatialAttention,
    Swish,
    activated,
    forget_prepared,
    fused,
    halve,
    norm_layer,
    unbiased,
    upsample,
)


class ResBlock(nn.Module):
    """Normalisation · swish · 3×3 convolution, twice, with a skip: (B, in, h, w) → (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int | None) -> None:
        super().__init__()
        self.norm1 = norm_layer(in_channels, groups)
        self.conv1 = Conv3x3(in_channels, out_channels)
        self.norm2 = norm_layer(out_channels, groups)
        self.conv2 = Conv3x3(out_channels, out_channels)
        self.conv_out = nn.Identity() if in_channels == out_channels else Conv1x1(in_channels, out_channels)
        for parameter in self.conv2.parameters():  # a deep stack starts as its skips, and learns faster
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        if fused.fits(x) and isinstance(self.norm1, GroupNorm) and isinstance(self.norm2, GroupNorm):
            return self._in_few_passes(x, self.norm1, self.norm2)
        out = self.conv1(activated(self.norm1, x))
        out = self.conv2(activated(self.norm2, out))
        skip: Tensor = self.conv_out(x)
        return skip + out if torch.is_grad_enabled() else out.add_(skip)

    def _in_few_passes(self, x: Tensor, norm1: GroupNorm, norm2: GroupNorm) -> Tensor:
        """Biases are added where the map is read anyway."""
        out = unbiased(self.conv1, fused.norm(x, norm1, swish=True), padding=(1, 1))
        out = unbiased(self.conv2, fused.norm(out, norm2, swish=True, bias=self.conv1.bias), padding=(1, 1))
        if isinstance(self.conv_out, nn.Identity):
            return fused.add(out, self.conv2.bias, x)
        assert isinstance(self.conv2.bias, Tensor)
        assert isinstance(self.conv_out.bias, Tensor)
        return fused.add(out, self.conv2.bias + self.conv_out.bias, unbiased(self.conv_out, x))


class Downsample(nn.Module):
    """Halves a map by a strided 3×3 convolution, padded by one zero row and column at the right and bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return halve(self.conv, x)


class Upsample(nn.Module):
    """Doubles a map: nearest neighbour, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.conv, x)


class _Stack(nn.Module):
    """Blocks in sequence; attention gets the window; with `checkpointing`, activations are recomputed in training."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpointing = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to` and its like do; forms of weights that lie elsewhere hold memory there."""
        forget_prepared(self)
        return super()._apply(fn, recurse)

    def run(self, x: Tensor, window: int | None, end: int | None = None) -> Tensor:
        x = _in_fast_format(x)
        blocks = list(self.blocks)[:end]
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            args = (x, window) if isinstance(block, SpatialAttention) else (x,)
            if self.checkpointing and self.training and x.requires_grad:
                x = checkpoint(block, *args, use_reentrant=False)
            elif fused.fits(x) and isinstance(following, Swish):
                x = activated(block, x)
            elif not (fused.fits(x) and isinstance(block, Swish)):  # which is done
                x = block(*args)
        return x


def _in_fast_format(x: Tensor) -> Tensor:
    """Channels last where no gradient is recorded: faster on processors, and on GPUs in 16 bits; training chooses."""
    device = x.device.type
    sixteen = x.element_size() == 2 or (device == "cuda" and torch.is_autocast_enabled(device))
    if torch.is_grad_enabled() or not (device == "cpu" or (device == "cuda" and sixteen)):
        return x
    return x.contiguous(memory_format=torch.channels_last)


def _bottleneck(width: int, groups: int | None, attention: bool) -> list[nn.Module]:
    middle: list[nn.Module] = [SpatialAttention(width, groups)] if attention else []
    return [ResBlock(width, width, groups), *middle, ResBlock(width, width, groups)]


class Encoder(_Stack):
    """Picture (B, 3, H, W) in [-1, 1] → latent (B, N, H/f, W/f), f = patch · 2^(levels − 1).

    Args:
        widths: channels of each level, finest first; a level without a block keeps those before it.
        latent_channels: N.
        res_blocks: residual blocks per level.
        patch: space-to-depth factor before the first convolution (1 in the published model).
        attention: attention at the coarsest level.
        groups: groups of every normalisation; None: `ChannelNorm`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        latent_channels: int,
        res_blocks: int,
        patch: int,
        attention: bool,
        groups: int | None,
    ) -> None:
        blocks: list[nn.Module] = [Conv3x3(3 * patch**2, widths[0])]
        before = widths[0]
        for level, width in enumerate(widths):
            coarsest = level == len(widths) - 1
            for _ in range(res_blocks):
                blocks.append(ResBlock(before, width, groups))
                if coarsest and attention:
                    blocks.append(SpatialAttention(width, groups))
                before = width
            if not coarsest:
                blocks.append(Downsample(before))
        blocks += _bottleneck(before, groups, attention)
        blocks += [norm_layer(before, groups), Swish(), Conv3x3(before, latent_channels)]
        super().__init__(blocks)
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.quant_conv = Conv1x1(latent_channels, latent_channels)

    def forward(self, x: Tensor, window: int | None = None) -> Tensor:
        """`window`: side of the attention windows, `None` for attention over the whole map."""
        latent: Tensor = self.quant_conv(self.run(self.unshuffle(x), window))
        return latent


class Decoder(_Stack):
    """Latent (B, N, h, w) → picture (B, 3, f·h, f·w), about [-1, 1], not clamped.

    Args:
        res_blocks: residual blocks of each level, finest first.
        widths, latent_channels, patch, attention, groups: as for `Encoder`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        latent_channels: int,
        res_blocks: Sequence[int],
        patch: int,
        attention: bool,
        groups: int | None,
    ) -> None:
        before = widths[-1]
        blocks: list[nn.Module] = [Conv3x3(latent_channels, before), *_bottleneck(before, groups, attention)]
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(res_blocks[level]):
                blocks.append(ResBlock(before, width, groups))
                if level == len(widths) - 1 and attention:
                    blocks.append(SpatialAttention(width, groups))
                before = width
            if level:
                blocks.append(Upsample(before))
        blocks += [norm_layer(before, groups), Swish(), Conv3x3(before, 3 * patch**2)]
        super().__init__(blocks)
        self.post_quant_conv = Conv1x1(latent_channels, latent_channels)
        self.shuffle = nn.PixelShuffle(patch)

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last convolution, where the adaptive GAN weight is measured."""
        conv = self.blocks[-1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(conv.weight, nn.Parameter)
        return conv.weight

    def forward(self, latent: Tensor, window: int | None = None) -> Tensor:
        """`window`: side of the attention windows, `None` for attention over the whole map."""
        return self.paint(self.features(latent, window))

    def features(self, latent: Tensor, window: int | None = None) -> Tensor:
        """What the last convolution sees, (B, widths[0], H/patch, W/patch)."""
        return self.run(self.post_quant_conv(latent), window, end=-1)

    def paint(self, features: Tensor) -> Tensor:
        """The last convolution: features → picture (B, 3, H, W)."""
        picture: Tensor = self.shuffle(self.blocks[-1](features))
        return picture
