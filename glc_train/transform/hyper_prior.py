"""Priors of z: a categorical one over codebook indices, and the factorised Gaussian it is compared with."""

import torch
from torch import Tensor, nn

from glc_train.layers import Quantised, lower_bound, round_ste
from glc_train.transform.gaussian import SCALE_MIN, gaussian_bits

_UNIT = 16.0  # of the scales; a power of two, so that the product is exact. Adam moves a parameter by about lr a step.


def categorical_bits(counts: Tensor, indices: Tensor) -> Tensor:
    """Bits of indices (any shape) int64 under the histogram `counts` (M,); the same shape, float32."""
    precise = counts.float() if counts.is_mps else counts.double()  # Apple's GPUs have no float64
    share = precise / precise.sum()
    # An index that was never seen still costs a finite number of bits: the coder's tables give each 2^-24.
    return -torch.log2(share.clamp_min(2.0**-24))[indices].float()


class FactorisedGaussian(nn.Module):
    """z rounded to integers, each channel under one learned Gaussian (GLC, CVPR 2024, ablation of the hyper module).

    It stands where `layers.VectorQuantiser` stands and has its methods, with integers (B, C, h, w) for indices.

    Args:
        channels: C of z.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.scale_units = nn.Parameter(torch.full((channels,), 1.0 / _UNIT))

    @property
    def scale(self) -> Tensor:
        """Standard deviation (C,) of each channel, at least 0.05; no function whose last bit may differ."""
        return lower_bound(self.scale_units * _UNIT, SCALE_MIN)

    def _per_channel(self, x: Tensor) -> Tensor:
        return x.view(-1, 1, 1)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Integers (B, C, h, w) int64 of z (B, C, h, w)."""
        return torch.round(z.float() - self._per_channel(self.mean)).long()

    def lookup(self, indices: Tensor) -> Tensor:
        """Decoded z (B, C, h, w) of integers (B, C, h, w)."""
        return indices + self._per_channel(self.mean)

    def forward(self, z: Tensor) -> Quantised:
        """Rounds z (B, C, h, w), straight through."""
        mean = self._per_channel(self.mean)
        z_hat = round_ste(z.float() - mean) + mean
        return Quantised(z_hat, z_hat, self.nearest(z))

    def bits(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Bits (B, C, h, w) of z (B, C, h, w), with gradients for z, mean and scale.

        Args:
            z: before rounding.
            noise: the same shape, in [-0.5, 0.5): prices z with it in place of rounding; None prices the integers.
        """
        residual = z.float() - self._per_channel(self.mean)
        symbols = round_ste(residual) if noise is None else residual + noise
        return gaussian_bits(symbols, self._per_channel(self.scale).expand_as(symbols))
