"""Maps of z ⇄ bytes: indices of a codebook, or integers under Gaussians."""

import numpy as np
import torch
from torch import Tensor

from glc_train.bitstream import (
    CategoricalTable,
    ContentCheck,
    GaussianTables,
    SymbolReader,
    SymbolWriter,
    read_map,
    write_map,
)
from glc_train.codecs.calibration import Draws
from glc_train.codecs.symbol_steps import NO_SYMBOL
from glc_train.layers import FRACTION_BITS, FiniteScalarQuantiser, VectorQuantiser, snap
from glc_train.transform import FactorisedGaussian


class CodebookMap:
    """A map of codebook indices ⇄ bytes, under a categorical table, or adaptive tables that begin with it."""

    def __init__(self, quantiser: VectorQuantiser | FiniteScalarQuantiser, counts: Tensor) -> None:
        self.codebook = quantiser.code_vectors()
        self.table = CategoricalTable.from_counts(counts.cpu().numpy())

    def write(
        self, indices: np.ndarray, size: tuple[int, int], writer: SymbolWriter, check: ContentCheck, adaptive: bool
    ) -> float:
        """Writes indices (h · w,) int64 of a map of `size`; returns their bits under the tables."""
        symbols = indices.astype(np.int32)
        check.update(symbols)
        if adaptive:
            return write_map(symbols, size[1], self.table, writer)
        writer.write_categorical(symbols, self.table)
        return self.table.ideal_bits(symbols)

    def read(
        self, size: tuple[int, int], reader: SymbolReader, check: ContentCheck, device: torch.device, adaptive: bool
    ) -> Tensor:
        """Indices (1, h, w) int64 of a map of `size`."""
        height, width = size
        if adaptive:
            symbols = read_map(height, width, self.table, reader)
        else:
            symbols = reader.read_categorical(height * width, self.table)
        check.update(symbols)
        return torch.from_numpy(symbols.astype(np.int64)).to(device).view(1, height, width)

    def lookup(self, indices: Tensor) -> Tensor:
        """Code vectors (1, C, h, w)."""
        return self.codebook[indices].permute(0, 3, 1, 2).contiguous()

    def draw(self, draws: Draws, height: int, width: int, device: torch.device) -> Tensor:
        """As of `DrawnMap`: indices as often as the table says."""
        ends = np.cumsum(self.table.frequencies)
        indices = np.searchsorted(ends, draws.integers(height * width), side="right")
        return self.lookup(torch.from_numpy(indices).to(device).view(1, height, width))


class GaussianMap:
    """A map of integers ⇄ bytes, each channel under its own Gaussian table, which never adapts.

    Methods as of `CodebookMap`.
    """

    def __init__(self, prior: FactorisedGaussian, tables: GaussianTables) -> None:
        self.tables = tables
        self.mean = snap(prior.mean.detach().float())
        scale = snap(prior.scale.detach().float())
        self.scale = scale
        self.index = tables.index((scale * 2**FRACTION_BITS).to(torch.int64).cpu().numpy())

    def _indices(self, height: int, width: int) -> np.ndarray:
        return np.repeat(self.index, height * width)

    def write(
        self, indices: np.ndarray, size: tuple[int, int], writer: SymbolWriter, check: ContentCheck, adaptive: bool
    ) -> float:
        """Writes integers (C · h · w,) int64 of a map of `size`; returns their bits under the tables."""
        symbols = indices.astype(np.int32)
        if not np.array_equal(symbols, indices):  # NaN has become the lowest of all integers
            raise ValueError(NO_SYMBOL)
        tables = self._indices(*size)
        writer.write_gaussian(symbols, tables, self.tables)
        check.update(symbols)
        return self.tables.ideal_bits(symbols, tables)

    def read(
        self, size: tuple[int, int], reader: SymbolReader, check: ContentCheck, device: torch.device, adaptive: bool
    ) -> Tensor:
        """Integers (1, C, h, w) int64."""
        height, width = size
        symbols = reader.read_gaussian(self._indices(height, width), self.tables)
        check.update(symbols)
        return torch.from_numpy(symbols.astype(np.int64)).to(device).view(1, -1, height, width)

    def lookup(self, indices: Tensor) -> Tensor:
        """Decoded z (1, C, h, w)."""
        return indices.float() + self.mean.view(-1, 1, 1)

    def draw(self, draws: Draws, height: int, width: int, device: torch.device) -> Tensor:
        """As of `DrawnMap`."""
        noise = torch.from_numpy(draws.normal(self.index.size * height * width)).to(device)
        symbols = (noise.view(1, -1, height, width) * self.scale.view(-1, 1, 1)).round()
        return self.lookup(symbols)


SymbolMap = CodebookMap | GaussianMap


def symbol_map(
    quantiser: VectorQuantiser | FiniteScalarQuantiser | FactorisedGaussian, counts: Tensor, tables: GaussianTables
) -> SymbolMap:
    """How the indices of `quantiser` are written; `counts` (M,) int64 of its codes where it has a codebook."""
    if isinstance(quantiser, FactorisedGaussian):
        return GaussianMap(quantiser, tables)
    return CodebookMap(quantiser, counts)
