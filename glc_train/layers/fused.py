"""Group normalisation with swish, and sums with a bias, on GPUs: one pass where PyTorch's operators take several.

Triton, part of builds of PyTorch for CUDA, compiles the kernels at their first use. Where that fails, everything
is computed by PyTorch's operators as elsewhere.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

FEW = 1 << 23
"""Numbers of a map: on a GPU, starting kernels takes longer than what they do in one that has no more."""

_log = logging.getLogger(__name__)
_NUMBERS = 8192  # of a map that a program takes at a time
_PARTS = 512  # most programs that add up a map, each its share


def fits(x: Tensor) -> bool:
    """Whether the functions here take x (B, C, h, w): large, channels last, of 16 bits, on a GPU, without gradients."""
    return (
        x.device.type == "cuda"
        and x.element_size() == 2
        and x[0].numel() > FEW
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and x.is_contiguous(memory_format=torch.channels_last)
        and _kernels() is not None
    )


def norm(x: Tensor, layer: nn.GroupNorm, swish: bool, bias: Tensor | None = None) -> Tensor:
    """Group normalisation by `layer` of x + bias, a new map; then swish, if `swish`.

    Args:
        x: (B, C, h, w) that `fits`.
        layer: with weight and bias.
        bias: (C,), which x still lacks, or None.
    """
    kernels = _kernels()
    assert kernels is not None
    batch, channels, height, width = x.shape
    places = height * width
    wide = kernels.power_of_two(channels)
    rows = max(1, _NUMBERS // wide)
    few = max(1, rows // 2)  # two sums of each number are kept
    share = -(-places // (_PARTS * few)) * few
    parts = -(-places // share)
    sums = torch.empty(batch, parts, 2, channels, dtype=torch.float32, device=x.device)
    line = torch.empty(batch, 2, channels, dtype=torch.float32, device=x.device)
    out = torch.empty_like(x)
    lacking = layer.bias if bias is None else bias
    in_group = channels // layer.num_groups
    with torch.cuda.device_of(x):
        kernels.add_up[(parts, batch)](x, sums, places, share, parts, channels, wide, few)
        kernels.line_of_group[(layer.num_groups, batch)](
            sums, layer.weight, layer.bias, lacking, line, places, share, parts, channels, layer.eps,
            bias is not None, in_group, kernels.power_of_two(in_group),
        )  # fmt: skip
        kernels.apply_line[(-(-places // rows), batch)](x, line, out, places, channels, wide, rows, swish)
    return out


def add(x: Tensor, bias: Tensor | None = None, other: Tensor | None = None) -> Tensor:
    """x + bias + other, in the place of x.

    Args:
        x, other: (B, C, h, w) that `fit`.
        bias: (C,).
    """
    kernels = _kernels()
    assert kernels is not None
    batch, channels, height, width = x.shape
    places, wide = batch * height * width, kernels.power_of_two(channels)
    rows = max(1, _NUMBERS // wide)
    with torch.cuda.device_of(x):
        kernels.add_in_place[(-(-places // rows),)](
            x, x if bias is None else bias, x if other is None else other, places, channels, bias is not None,
            other is not None, wide, rows,
        )  # fmt: skip
    return x


@cache
def _kernels() -> Any:
    """The module of the kernels, tried once; None where they do not run."""
    try:
        from glc_train.layers import fused_kernels

        fused_kernels.check()
    except Exception as error:  # no Triton, no compiler for what starts its kernels, a GPU that it does not know
        _log.warning("GPU kernels of this package do not run here (%s); PyTorch's take longer", _first_line(error))
        return None
    return fused_kernels


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
