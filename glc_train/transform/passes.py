"""The one loop over context passes that training, encoding and decoding share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from glc_train.transform.gaussian import gaussian_bits

Rounding = Literal["hard", "ste", "noise", "mixed"]


class SymbolStep(Protocol):
    """What happens to the symbols of one pass: rounded, written, or read."""

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        """Takes scale and mean (B, C, h, w) and the mask (C, h, w) of the pass.

        Returns:
            symbol + mean (B, C, h, w) where the mask is set, 0 elsewhere.
        """
        ...


def run_passes(
    masks: Tensor,
    scale: Tensor,
    mean: Tensor,
    next_parameters: Callable[[int, Tensor], tuple[Tensor, Tensor]],
    step: SymbolStep,
) -> Tensor:
    """Runs the context passes.

    Args:
        masks: (P, C, h, w), from `partition`.
        scale, mean: (B, C, h, w), parameters of pass 0.
        next_parameters: (k, decoded so far) → scale, mean of pass k.
        step: what happens to the symbols.

    Returns:
        The decoded values (B, C, h, w), in units of the quantisation step.
    """
    decoded = step(scale, mean, masks[0])
    for k in range(1, len(masks)):
        scale, mean = next_parameters(k, decoded)
        decoded = decoded + step(scale, mean, masks[k])
    return decoded


def choose_symbols(residual: Tensor, scale: Tensor, rdoq: float | Tensor) -> Tensor:
    """Rate-distortion optimised quantisation, the encoder's choice alone; a decoder does not need to know.

    Args:
        residual: y minus its mean, in units of the quantisation step, any shape.
        scale: of the symbols' Gaussians, the same shape.
        rdoq: λ ≥ 0 of the cost (residual − symbol)² + λ · bits, one number or several that broadcast. 0 rounds.

    Returns:
        The nearest integers, or the next ones towards zero where these cost less. The same shape and type.
    """
    nearest = torch.round(residual)
    if isinstance(rdoq, float) and rdoq == 0:
        return nearest
    smaller = nearest - torch.sign(nearest)
    distortion = (residual - smaller).square() - (residual - nearest).square()
    saved = gaussian_bits(nearest, scale) - gaussian_bits(smaller, scale)
    return torch.where(distortion < rdoq * saved, smaller, nearest)


@dataclass
class QuantiseStep:
    """Rounds `target` (y in units of the step) and keeps symbols and scales for the rate.

    `rounding`: "hard" (no gradient), "ste" (straight-through), "noise" (uniform noise for rate and reconstruction),
    "mixed" (noise for the rate, straight-through for the reconstruction). `noise`: (B, C, h, w) in [-0.5, 0.5), needed
    for the last two. `rdoq`: of `choose_symbols`, for all but "noise".
    """

    target: Tensor
    rounding: Rounding = "hard"
    noise: Tensor | None = None
    rdoq: float | Tensor = 0.0

    def __post_init__(self) -> None:
        self.symbols = torch.zeros_like(self.target)  # as reconstructed
        self.rate_symbols = torch.zeros_like(self.target)  # as priced
        self.scales = torch.zeros_like(self.target)

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        residual = self.target - mean
        symbols = choose_symbols(residual.detach(), scale.detach(), self.rdoq)
        if self.rounding != "hard":
            symbols = residual + (symbols - residual).detach()
        rate_symbols = symbols
        if self.rounding in ("noise", "mixed"):
            if self.noise is None:
                raise ValueError(f'rounding "{self.rounding}" needs noise')
            rate_symbols = residual + self.noise
            symbols = rate_symbols if self.rounding == "noise" else symbols
        self.symbols = self.symbols + symbols * mask
        self.rate_symbols = self.rate_symbols + rate_symbols * mask
        self.scales = self.scales + scale * mask
        return (symbols + mean) * mask

    def bits(self) -> tuple[Tensor, Tensor]:
        """Bits (B,) of the symbols, and those that training prices: the same, or those of the noisy symbols.

        The former have no gradient where they differ.
        """
        priced = gaussian_bits(self.rate_symbols, self.scales).flatten(1).sum(1)
        if self.rounding != "mixed":
            return priced, priced
        with torch.no_grad():
            return gaussian_bits(self.symbols, self.scales).flatten(1).sum(1), priced


class ZeroStep:
    """Every symbol zero: the preview that needs only z."""

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        return mean * mask
