"""Normalisations and swish, which compute in place and in few passes where no gradient is recorded."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018) of maps (B, C, h, w), eps 1e-6.

    On GPUs a single map without gradients keeps its memory format and, under autocast, its type; PyTorch's own kernel
    makes contiguous float32 of it.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda or len(x) != 1 or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        return normalise(self, x, *group_moments(*channel_moments(x), self.num_groups))


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by the count) of each channel of x (1, C, h, w): (C,) float32 each.

    On GPUs in one pass and exact to rounding; processors add up in order, so that large maps lose digits.
    """
    zeros = torch.zeros(x.shape[1], device=x.device)  # with it, they are float32 for bfloat16 as well
    mean, variance = torch.batch_norm_update_stats(x, zeros, torch.ones_like(zeros), 0.0)
    return mean, variance


def group_moments(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Moments (C,) of channels → those of each channel's group, (C,)."""
    means, variances = mean.view(groups, -1), variance.view(groups, -1)
    spread, centre = torch.var_mean(means, 1, correction=0, keepdim=True)
    total = variances.mean(1, keepdim=True) + spread
    return centre.expand_as(means).reshape(-1), total.expand_as(means).reshape(-1)


def normalise(norm: nn.GroupNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Group normalisation of x (1, C, h, w), the whole map or a part of it, by the moments (C,) of each one's group."""
    return F.batch_norm(x, mean, variance, norm.weight, norm.bias, training=False, eps=norm.eps)


def swish(x: Tensor) -> Tensor:
    """x · sigmoid(x); where no gradient is recorded, x itself is overwritten."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Swish(nn.SiLU):
    """`swish` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return swish(x)


def norm_layer(channels: int, groups: int | None) -> nn.Module:
    """Group normalisation with `groups` groups, or `ChannelNorm` for None."""
    return ChannelNorm(channels) if groups is None else GroupNorm(groups, channels)
