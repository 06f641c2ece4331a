"""Single-head self-attention over a map, whole or in windows."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers.blocks import conv1x1, norm_layer


class SpatialAttention(nn.Module):
    """Normalisation, single-head attention with 1×1 projections, residual (VQGAN, Esser et al. 2021).

    Args:
        channels: C, a multiple of `groups`.
        groups: groups of the normalisation; None: `ChannelNorm`.
    """

    def __init__(self, channels: int, groups: int | None = 32) -> None:
        super().__init__()
        self.norm = norm_layer(channels, groups)
        self.q = conv1x1(channels, channels)
        self.k = conv1x1(channels, channels)
        self.v = conv1x1(channels, channels)
        self.proj_out = conv1x1(channels, channels)

    def forward(self, x: Tensor, window: int | None = None) -> Tensor:
        """(B, C, h, w) → the same shape; `window`: side of independent windows, `None` for the whole map."""
        normed = self.norm(x)
        q, k, v = self.q(normed), self.k(normed), self.v(normed)
        height, width = x.shape[-2:]
        if window is None or (height <= window and width <= window):
            return x + self.proj_out(_attend(q, k, v))
        # Edge windows are smaller, so the rows of windows are attended one by one.
        rows = []
        for top in range(0, height, window):
            row = [
                _attend(*(t[..., top : top + window, left : left + window] for t in (q, k, v)))
                for left in range(0, width, window)
            ]
            rows.append(torch.cat(row, dim=-1))
        out: Tensor = self.proj_out(torch.cat(rows, dim=-2))
        return x + out


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    height = q.shape[-2]
    q, k, v = (rearrange(t, "b c h w -> b 1 (h w) c") for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v)  # scale 1/sqrt(C) by default
    return rearrange(out, "b 1 (h w) c -> b c h w", h=height)
