"""Rounding and bounding with the gradients that training a codec needs."""

from typing import Any

import torch
from torch import Tensor


def round_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient passes straight through. Any shape."""
    return x + (torch.round(x) - x).detach()


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # Below the bound only a gradient that would raise x passes, so that x can come back.
        keep = (x >= ctx.bound) | (grads[0] < 0)
        return grads[0] * keep, None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound); below the bound, gradients that push x up still pass (Ballé et al. 2018). Any shape."""
    out: Tensor = _LowerBound.apply(x, bound)
    return out
