"""λ of each quality index: fixed, or steered to a target rate."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RateWeights(nn.Module):
    """λ per quality; the loss is λ·R with R in bits per pixel.

    λ is interpolated geometrically from the lowest quality to the highest. With targets a controller multiplies each λ
    by exp(gain · (bpp/target − 1)) at every step, the exponent clipped to ±gain.

    Args:
        quality_levels: number of quality indices.
        lambdas: λ of the lowest and of the highest quality (the starting values where there are targets).
        target_bpp: bits per pixel of the lowest and of the highest quality, interpolated geometrically; None: λ stay.
        gain: of the controller.
        limits: least and greatest λ that the controller may reach, so that a target out of reach does no harm.
        warmup: steps over which λ rises quadratically; starting with a high rate keeps y from collapsing.
    """

    def __init__(
        self,
        quality_levels: int,
        lambdas: Sequence[float] = (4.0, 1.0),
        target_bpp: Sequence[float] | None = None,
        gain: float = 0.005,
        limits: Sequence[float] = (1e-2, 1e3),
        warmup: int = 0,
    ) -> None:
        super().__init__()
        self.gain = gain
        self.log_limits = [math.log(limit) for limit in limits]
        self.warmup = warmup
        self.register_buffer("log_lambda", _spread(lambdas, quality_levels))
        self.register_buffer("log_target", None if target_bpp is None else _spread(target_bpp, quality_levels))

    log_lambda: Tensor
    log_target: Tensor | None

    def forward(self, quality: Tensor, step: int) -> Tensor:
        """λ (B,) for quality (B,) int64 at training step `step`."""
        ramp = min(1.0, (step + 1) / self.warmup) ** 2 if self.warmup else 1.0
        return self.log_lambda[quality].exp() * ramp

    @torch.no_grad()
    def steer(self, bpp: Tensor) -> None:
        """Moves λ towards the targets, from the mean bpp (levels,) of each quality index; NaN leaves it."""
        if self.log_target is None:
            return
        error = (bpp / self.log_target.exp() - 1).clamp(-1, 1).nan_to_num(0.0)
        self.log_lambda += self.gain * error.float()
        self.log_lambda.clamp_(*self.log_limits)


def _spread(ends: Sequence[float], levels: int) -> Tensor:
    low, high = (math.log(end) for end in ends)
    return torch.linspace(low, high, levels)
