"""Normalisations and swish, which compute in place and in few passes where no gradient is recorded."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import fused
from glc_train.layers.prepared import prepared

Moments = tuple[Tensor, ...]
"""Mean and variance of each channel, (C,) float32; nothing where a normalisation needs none."""


class ChannelNorm(nn.Module):
    """Normalises each position over its channels (Mentzer et al. 2020, HiFiC): (B, C, h, w) → the same shape.

    Group normalisation takes its statistics from the whole map, so a network trained on small crops meets others in
    whole pictures. Here a position's result does not depend on the size of the picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return normed.permute(0, 3, 1, 2)

    def moments(self, *parts: Tensor) -> Moments:
        """As `GroupNorm.moments`: none."""
        return ()

    def normalise(self, x: Tensor, moments: Moments) -> Tensor:
        """As `GroupNorm.normalise`."""
        normed: Tensor = self(x)
        return normed


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018) of maps (B, C, h, w), eps 1e-6.

    Without gradients a map keeps its type under autocast, and large maps lose no digits: those of PyTorch's kernels
    that add up a channels-last map in order are wrong by 0.002 for two million pixels. Maps keep their memory format
    too, but for small ones of 16 bits on a GPU, where one operator in place of seven is worth more.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        if fused.fits(x):
            return fused.norm(x, self, swish=False)
        if x.is_cuda and x.element_size() == 2 and x[0].numel() <= fused.FEW:
            return self._at_once(x)
        normed = [self.normalise(one, self.moments(one)) for one in x.split(1)]
        return normed[0] if len(normed) == 1 else torch.cat(normed)

    def _at_once(self, x: Tensor) -> Tensor:
        """By PyTorch's kernel, which rounds the moments to the type of x (B, C, h, w), and gives a contiguous map."""
        weight, bias = prepared(self, x.dtype, lambda: (self.weight.to(x.dtype), self.bias.to(x.dtype)))
        batch, channels, height, width = x.shape
        return torch.native_group_norm(
            x.contiguous(), weight, bias, batch, channels, height * width, self.num_groups, self.eps
        )[0]

    def moments(self, *parts: Tensor) -> Moments:
        """Of a whole map (1, C, h, w), or of parts (1, c, h, w) that have its channels between them, in order."""
        found = [channel_moments(part) for part in parts]
        mean, variance = found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))
        return group_moments(mean, variance, self.num_groups)

    def normalise(self, x: Tensor, moments: Moments) -> Tensor:
        """A map (1, C, h, w), or some rows of it, by the moments of the whole."""
        mean, variance = moments
        return F.batch_norm(x, mean, variance, self.weight, self.bias, training=False, eps=self.eps)


_BLOCK_BYTES = 4 << 20  # of rows that are squared together: they stay in a processor's cache


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by the count) of each channel of x (1, C, h, w).

    On processors rows are added up each by itself, and then their sums, so that no sum has many terms.
    """
    if x.is_cuda:  # in one pass, and exact to rounding
        unused = torch.zeros(2, x.shape[1], device=x.device)  # with it, they are float32 for bfloat16 as well
        mean, variance = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
        return mean, variance
    rows = max(1, _BLOCK_BYTES // (4 * x.shape[1] * x.shape[-1]))
    # a tensor kept for each block would take a piece of the memory that the next block could have
    sums = torch.empty(2, *x.shape[1:3], dtype=torch.float32, device=x.device)
    for part, into in zip(x[0].split(rows, 1), sums.split(rows, 2), strict=True):
        part = part.float()
        into[0], into[1] = part.sum(-1), part.square().sum(-1)
    mean, square = sums.sum(-1) / (x.shape[-2] * x.shape[-1])
    return mean, (square - mean.square()).clamp_min(0)


def group_moments(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Moments (C,) of channels → those of each channel's group, (C,)."""
    means, variances = mean.view(groups, -1), variance.view(groups, -1)
    spread, centre = torch.var_mean(means, 1, correction=0, keepdim=True)
    total = variances.mean(1, keepdim=True) + spread
    both = torch.stack([centre.expand_as(means), total.expand_as(means)]).view(2, -1)
    return both[0], both[1]


def swish(x: Tensor) -> Tensor:
    """x · sigmoid(x); where no gradient is recorded, x itself is overwritten."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def activated(norm: nn.Module, x: Tensor) -> Tensor:
    """`swish` of the normalised map x (B, C, h, w), at once where the device can."""
    if isinstance(norm, GroupNorm) and fused.fits(x):
        return fused.norm(x, norm, swish=True)
    return swish(norm(x))


class Swish(nn.SiLU):
    """`swish` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return swish(x)


def norm_layer(channels: int, groups: int | None) -> nn.Module:
    """Group normalisation with `groups` groups, or `ChannelNorm` for None."""
    return ChannelNorm(channels) if groups is None else GroupNorm(groups, channels)
