"""Finite scalar quantisation (Mentzer et al., ICLR 2024): nothing to collapse, for there are no entries."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glc_train.layers.blocks import conv1x1
from glc_train.layers.rounding import round_ste
from glc_train.layers.vector_quantiser import Quantised

_MARGIN = 1e-3  # keeps the outermost levels reachable


class FiniteScalarQuantiser(nn.Module):
    """Projects C channels to a few, bounds each and rounds it to its levels, and projects back.

    Offers what `VectorQuantiser` offers.

    Args:
        levels: levels of each projected channel, each at least 2; their product is the number of codes. The paper
            recommends 8, 5, 5, 5 for 1,000 codes and 7, 5, 5, 5, 5 for 4,375.
        channels: C.
    """

    def __init__(self, levels: Sequence[int], channels: int) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"finite scalar quantisation needs at least 2 levels in each channel, not {list(levels)}")
        self.codes = math.prod(levels)
        self.channels = channels
        self.project_in = conv1x1(channels, len(levels))
        self.project_out = conv1x1(len(levels), channels)
        basis = [math.prod(levels[:place]) for place in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("basis", torch.tensor(basis).view(1, -1, 1, 1), persistent=False)

    levels: Tensor
    basis: Tensor

    def _digits(self, x: Tensor) -> Tensor:
        """Rounded levels, centred on 0 (odd) or -1/2 (even), with straight-through gradient; (B, d, h, w)."""
        half = (self.levels - 1).float() * (1 + _MARGIN) / 2
        offset = (self.levels % 2 == 0).float() / 2
        shift = torch.atanh(offset / half)
        return round_ste(torch.tanh(self.project_in(x).float() + shift) * half - offset)

    def _digits_of(self, indices: Tensor) -> Tensor:
        """Levels (B, d, h, w) int64, as of `_digits`, of indices (B, h, w)."""
        return indices[:, None] // self.basis % self.levels - self.levels // 2

    def _vectors(self, digits: Tensor) -> Tensor:
        out: Tensor = self.project_out(digits / (self.levels // 2))
        return out

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Indices (B, h, w) int64 in [0, codes) of x (B, C, h, w)."""
        return ((self._digits(x).long() + self.levels // 2) * self.basis).sum(1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Code vectors (B, C, h, w) of indices (B, h, w)."""
        return self._vectors(self._digits_of(indices).to(self.project_out.weight.dtype))

    def code_vectors(self) -> Tensor:
        """All code vectors (M, C), float32: the same bits on every machine, for they are summed in a fixed order."""
        digits = self._digits_of(torch.arange(self.codes, device=self.levels.device).view(-1, 1, 1))
        parts = (digits.float() / (self.levels // 2).float()).flatten(1)
        weight, bias = self.project_out.weight.detach().float().flatten(1), self.project_out.bias
        assert bias is not None
        vectors = bias.detach().float().expand(self.codes, -1)
        for part, column in zip(parts.t(), weight.t(), strict=True):
            vectors = vectors + part[:, None] * column
        return vectors

    def forward(self, x: Tensor) -> Quantised:
        """Quantises x (B, C, h, w)."""
        digits = self._digits(x)
        vectors = self._vectors(digits)
        indices = ((digits.detach().long() + self.levels // 2) * self.basis).sum(1)
        return Quantised(vectors, vectors, indices)
