"""Single-head self-attention over a map, whole or in windows."""

import math
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers.convolution import Conv1x1
from glc_train.layers.normalisation import norm_layer


class SpatialAttention(nn.Module):
    """Normalisation, single-head attention with 1×1 projections, residual (VQGAN, Esser et al. 2021).

    Args:
        channels: C, a multiple of `groups`.
        groups: groups of the normalisation; None: `ChannelNorm`.
    """

    def __init__(self, channels: int, groups: int | None = 32) -> None:
        super().__init__()
        self.norm = norm_layer(channels, groups)
        self.q = Conv1x1(channels, channels)
        self.k = Conv1x1(channels, channels)
        self.v = Conv1x1(channels, channels)
        self.proj_out = Conv1x1(channels, channels)

    def forward(self, x: Tensor, window: int | None = None) -> Tensor:
        """(B, C, h, w) → the same shape; `window`: side of independent windows, `None` for the whole map."""
        return x + self.attend(self.norm(x), window)

    def attend(self, normed: Tensor, window: int | None = None) -> Tensor:
        """What is added to a map (B, C, h, w), from its normalisation; also to whole rows of windows alone."""
        q, k, v = self.q(normed), self.k(normed), self.v(normed)
        height, width = normed.shape[-2:]
        if window is not None and any(isinstance(side, torch.SymInt) for side in (height, width)):  # exported
            padded: Tensor = self.proj_out(_attend_padded(q, k, v, window))
            return padded
        if window is None or (height <= window and width <= window):
            whole: Tensor = self.proj_out(_attend(q, k, v))
            return whole
        # Windows of one size are attended together: inner ones, those of the right and the bottom edge, the corner.
        rows = []
        for ys in _whole_and_rest(height, window):
            parts = [[t[..., ys, xs] for t in (q, k, v)] for xs in _whole_and_rest(width, window)]
            rows.append(torch.cat([_attend(part[0], part[1], part[2], window) for part in parts], dim=-1))
        out: Tensor = self.proj_out(torch.cat(rows, dim=-2))
        return out


def _whole_and_rest(length: int, window: int) -> list[slice]:
    """What whole windows cover of `length`, and what is left; without empty ones."""
    whole = length - length % window
    return [part for part in (slice(0, whole), slice(whole, length)) if part.start < part.stop]


def _attend_padded(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """As in windows whole and cut off, but without a decision on the size: cut ones are filled up, which nothing sees.

    Windows of a small map cost as much as whole ones.
    """
    height, width = q.shape[-2:]
    down, across = (undecided((side + window - 1) // window) for side in (height, width))
    torch._check(down * window >= height)
    torch._check(across * window >= width)

    def windows(t: Tensor) -> Tensor:
        filled = F.pad(t, (0, across * window - width, 0, down * window - height))
        split = filled.reshape(t.shape[0], t.shape[1], down, window, across, window)
        return split.permute(0, 2, 4, 3, 5, 1).reshape(t.shape[0] * down * across, 1, window**2, t.shape[1])

    seen = windows(torch.ones_like(q[:, :1])).mT > 0
    out = F.scaled_dot_product_attention(windows(q), windows(k), windows(v), seen)
    split = out.reshape(q.shape[0], down, across, window, window, q.shape[1]).permute(0, 5, 1, 3, 2, 4)
    filled = split.reshape(q.shape[0], q.shape[1], down * window, across * window)
    return filled.narrow(-2, 0, height).narrow(-1, 0, width)


def undecided(value: int) -> int:
    """A size ≥ 1 as a new symbol of `torch.export`, which then decides nothing on how it came about."""
    size = cast(int, torch.scalar_tensor(value, dtype=torch.int64).item())
    torch._check(size >= 1)
    return size


def _attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Attention over maps (B, C, h, w), or inside their windows: sides are multiples of `window`, or smaller."""
    height, width = q.shape[-2:]
    down = 1 if window is None else max(1, height // window)
    across = 1 if window is None else max(1, width // window)
    split = {"i": down, "j": across}
    q, k, v = (rearrange(t, "b c (i h) (j w) -> (b i j) 1 (h w) c", **split) for t in (q, k, v))
    if isinstance(height, torch.SymInt):  # exported; the other would decide whether there is but one place
        out = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v)  # scale 1/sqrt(C) by default
    return rearrange(out, "(b i j) 1 (h w) c -> b c (i h) (j w)", **split, h=height // down)
