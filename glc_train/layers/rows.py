"""Large maps through networks that look a few rows far: in stripes, so that what is inside stays small."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from glc_train.layers.exact import ExactConv2d

STRIPE_PLACES = 1 << 14
"""Places of a map that are computed together. It depends on nothing but the map: so do the last bits of results."""


def reach(*modules: nn.Module) -> int:
    """How many rows up and down modules in sequence look at most, where they keep to one scale."""
    layers = (layer for module in modules for layer in module.modules())
    return sum(layer.weight.shape[-2] // 2 for layer in layers if isinstance(layer, nn.Conv2d | ExactConv2d))


def by_rows(function: Callable[..., Tensor], halo: int, *maps: Tensor, scale: tuple[int, int] = (1, 1)) -> Tensor:
    """`function(*maps)`, in stripes of rows where the maps are large and no gradient is recorded.

    Args:
        function: maps (B, C, h, w) to one map, looks at most `halo` rows up and down.
        halo: a multiple of the divisor of `scale`.
        maps: of the same h and w.
        scale: rows of the result for rows of the maps, as multiplier and divisor, which divides h.
    """
    height, width = maps[0].shape[-2:]
    times, per = scale
    places = STRIPE_PLACES // (times * times)  # of the finer side
    rows = max(4, places // (4 * width) * 4)
    if torch.is_grad_enabled() or height <= rows:
        return function(*maps)
    out: Tensor | None = None
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - halo, 0), min(bottom + halo, height)
        part = function(*(each[..., first:last, :] for each in maps))
        if out is None:
            out = part.new_empty(*part.shape[:2], height * times // per, part.shape[-1])
        start = (top - first) * times // per
        begin, end = top * times // per, -(-bottom * times // per)
        out[..., begin:end, :] = part[..., start : start + end - begin, :]
    assert out is not None
    return out
