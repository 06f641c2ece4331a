"""Bits of integer symbols under zero-mean Gaussians integrated over unit bins."""

import torch
from torch import Tensor

from glc_train.layers import lower_bound

SCALE_MIN = 0.05  # below it a symbol costs nothing measurable; also the smallest scale of the coder's tables
_SQRT_HALF = 0.5**0.5
_PROBABILITY_MIN = 2.0**-24  # the coder's tables give no symbol less


def _bin_probability(symbols: Tensor, scales: Tensor) -> Tensor:
    magnitude = symbols.abs()
    # Lower tails by erfc: Φ = (1 + erf) / 2, as torch.special.ndtr has it, would cancel in float32.
    upper = torch.erfc((magnitude - 0.5) / scales * _SQRT_HALF)
    lower = torch.erfc((magnitude + 0.5) / scales * _SQRT_HALF)
    return 0.5 * (upper - lower)


def gaussian_bits(symbols: Tensor, scales: Tensor) -> Tensor:
    """−log2 of the probability of each symbol; for training and for estimates that bytes can meet.

    Args:
        symbols: integers, or integers with additive noise, any shape.
        scales: standard deviations, the same shape; values under 0.05 count as 0.05, with a gradient that
            can raise them.

    Returns:
        Bits, the same shape, float32.
    """
    with torch.autocast(symbols.device.type, enabled=False):
        probability = _bin_probability(symbols.float(), lower_bound(scales.float(), SCALE_MIN))
        return -torch.log2(lower_bound(probability, _PROBABILITY_MIN))


def published_gaussian_bits(symbols: Tensor, scales: Tensor) -> Tensor:
    """The estimate of the published test code: −log2(P + 1e-5), clamped at 0, scales clamped at 1e-5.

    It prices no symbol above 16.6 bits, so it can be below what any coder needs. For comparison with published figures.
    """
    scales = scales.float().clamp_min(1e-5)
    low = torch.special.ndtr((symbols.float() - 0.5) / scales)
    high = torch.special.ndtr((symbols.float() + 0.5) / scales)
    return -torch.log2(high - low + 1e-5).clamp_max(0.0)
