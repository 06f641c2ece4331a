"""Convolution blocks of the transform codec (GLC, CVPR 2024, supplementary; TCSVT 2025, section III).

All of them map (B, in, h, w) to (B, out, h, w) float tensors, but for `Up2`, which doubles h and w.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Point-wise convolution with bias."""
    return nn.Conv2d(in_channels, out_channels, 1)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution with bias and "same" zero padding."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)


def depthwise3x3(channels: int) -> nn.Conv2d:
    """3×3 convolution of each channel on its own."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


def _skip(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Identity() if in_channels == out_channels else conv1x1(in_channels, out_channels)


class DepthConv(nn.Module):
    """Point-wise, depth-wise, point-wise convolution with a skip connection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv1x1(in_channels, in_channels), nn.LeakyReLU(0.01))
        self.depth_conv = depthwise3x3(in_channels)
        self.conv2 = conv1x1(in_channels, out_channels)
        self.adaptor = _skip(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.depth_conv(self.conv1(x)))
        return out + self.adaptor(x)


class GatedDepthConv(nn.Module):
    """Depth-wise branch gated by a point-wise one, with a skip connection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv1x1(in_channels, out_channels), nn.LeakyReLU(0.01), depthwise3x3(out_channels))
        self.conv2 = conv1x1(in_channels, out_channels)
        self.out_conv = conv1x1(out_channels, out_channels)
        self.adaptor = _skip(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        skip: Tensor = self.adaptor(x)
        return skip + self.out_conv(self.conv1(x) * self.conv2(x))


class _FFN(nn.Module):
    """Residual feed-forward layer: c → 4c, two halves joined to 2c, → c."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv1x1(channels, 4 * channels)
        self.conv_out = conv1x1(2 * channels, channels)

    def join(self, u: Tensor, v: Tensor) -> Tensor:
        """Joins the halves u, v, each (B, 2c, h, w)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.conv(x).chunk(2, dim=1)
        out: Tensor = self.conv_out(self.join(u, v))
        return x + out


class GatedFFN(_FFN):
    """u · LReLU(0.1)(v)."""

    def join(self, u: Tensor, v: Tensor) -> Tensor:
        return u * F.leaky_relu(v, 0.1)


class AdditiveFFN(_FFN):
    """LReLU(0.1)(u) + LReLU(0.01)(v)."""

    def join(self, u: Tensor, v: Tensor) -> Tensor:
        return F.leaky_relu(u, 0.1) + F.leaky_relu(v, 0.01)


def block_a(in_channels: int, out_channels: int | None = None) -> nn.Sequential:
    """Block A: DepthConv + GatedFFN."""
    out = out_channels or in_channels
    return nn.Sequential(DepthConv(in_channels, out), GatedFFN(out))


def block_b(in_channels: int, out_channels: int | None = None) -> nn.Sequential:
    """Block B: GatedDepthConv + GatedFFN."""
    out = out_channels or in_channels
    return nn.Sequential(GatedDepthConv(in_channels, out), GatedFFN(out))


def block_c(in_channels: int, out_channels: int | None = None) -> nn.Sequential:
    """Block C: DepthConv + AdditiveFFN."""
    out = out_channels or in_channels
    return nn.Sequential(DepthConv(in_channels, out), AdditiveFFN(out))


class Grid(nn.Module):
    """Marks values that exact arithmetic hands on, where it rounds them to a grid: `exact_copy` replaces it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class WeightedMean(nn.Module):
    """Values (..., d, K) and weights (..., K, n) → sums over K, divided by K: (..., d, n)."""

    def forward(self, values: Tensor, weights: Tensor) -> Tensor:
        return torch.matmul(values, weights) / values.shape[-1]


class Up2(nn.Module):
    """Residual ×2 up-sampling by sub-pixel convolution: (B, in, h, w) → (B, out, 2h, 2w)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(conv1x1(in_channels, 4 * out_channels), nn.PixelShuffle(2), nn.LeakyReLU(0.01))
        self.conv = conv3x3(out_channels, out_channels)
        self.skip = nn.Sequential(conv1x1(in_channels, 4 * out_channels), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        main = F.leaky_relu(self.conv(self.main(x)), 0.1)
        skip: Tensor = self.skip(x)
        return main + skip
