"""A map of indices in raster order under tables that learn from it: no table is sent, reader and writer count alike.

The weight of an index is its share of the prior, times 24, plus 1 for each time that the map has held it so far, plus 8
for each of its neighbours on the left and above that has it. All in whole numbers, in units of 2^-16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glc_train.bitstream.coder import SymbolReader, SymbolWriter
from glc_train.bitstream.tables import PRECISION, CategoricalTable, as_int64

_UNIT_BITS = 16
_PRIOR, _NEIGHBOUR = 24, 8  # the first is the number of indices after which the map says as much as the prior
_MOST = 1 << 21  # indices of a map: the weights then come to less than 2^38


class _Learner:
    """The table of the next index, given those before it."""

    def __init__(self, prior: CategoricalTable, width: int) -> None:
        self._weights = _PRIOR * (1 + (prior.frequencies >> PRECISION - _UNIT_BITS))
        self._width = width
        self._seen: list[int] = []

    def table(self) -> CategoricalTable:
        weights, at = self._weights.copy(), len(self._seen)
        if at % self._width:
            weights[self._seen[-1]] += _NEIGHBOUR << _UNIT_BITS
        if at >= self._width:
            weights[self._seen[-self._width]] += _NEIGHBOUR << _UNIT_BITS
        frequencies = 1 + weights * ((1 << PRECISION) - weights.size) // int(weights.sum())
        frequencies[0] += (1 << PRECISION) - int(frequencies.sum())
        return CategoricalTable(frequencies)

    def add(self, index: int) -> None:
        self._weights[index] += 1 << _UNIT_BITS
        self._seen.append(index)


def write_map(indices: ArrayLike, width: int, prior: CategoricalTable, writer: SymbolWriter) -> float:
    """Writes indices (h · width,) of a map in raster order, each of 0..m-1; returns their bits under the tables.

    Raises ValueError, before anything is written, for indices that the prior does not have, or too many of them.
    """
    values = prior.check(as_int64(indices, "Indices"))
    if values.size > _MOST:
        raise ValueError(f"A map holds at most {_MOST} indices, not {values.size}.")
    learner, bits = _Learner(prior, width), 0.0
    for index in values.tolist():
        table = learner.table()
        writer.write_categorical([index], table)
        bits += table.ideal_bits([index])
        learner.add(index)
    return bits


def read_map(height: int, width: int, prior: CategoricalTable, reader: SymbolReader) -> NDArray[np.int32]:
    """Reads what `write_map` wrote: int32 (height · width,). Raises FormatError for data that no writer produces."""
    learner, values = _Learner(prior, width), np.empty(height * width, dtype=np.int32)
    for at in range(values.size):
        values[at] = reader.read_categorical(1, learner.table())[0]
        learner.add(int(values[at]))
    return values
