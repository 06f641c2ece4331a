"""Learning rates as a function of how much of a stage is done."""

import math


class WarmupCosine:
    """Linear warm-up, then half a cosine down to `final`.

    Args:
        warmup: steps of the warm-up.
        final: last factor.
    """

    def __init__(self, warmup: int = 200, final: float = 0.0) -> None:
        self.warmup = warmup
        self.final = final

    def __call__(self, step: int, progress: float) -> float:
        """Factor of the base learning rate at training step `step`, `progress` in [0, 1] of the stage done."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        return rise * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
