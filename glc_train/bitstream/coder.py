"""Range coding of integer symbols under integer tables, over the range coder of `constriction`.

Layout of one `write_gaussian` call: the symbols, grouped by ascending table (stable, so the order within a table is
kept), an ESCAPE in place of each value outside its table; then the escaped values in that grouped order, as
Exp-Golomb codes made of equally likely bits, plane by plane: first all unary prefixes (one round per bit, over
the values still running), then the low bits from the highest plane down, then the signs (1: negative). The coded number
is n = |value| - K, which is at least 1; its prefix has floor(log2 n) ones and a closing zero, which is left out after
31 ones, the longest prefix there is.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import constriction
import numpy as np
from numpy.typing import ArrayLike, NDArray

from glc_train.bitstream.errors import FormatError
from glc_train.bitstream.tables import PRECISION, CategoricalTable, GaussianTables, escape_prefix_length

_MAX_PREFIX = 31
_WORD_BITS = 32
_STATE_BITS = 64
_SPARED = 8
"""Bytes that a payload may have less than the coder has put out in words; see `SymbolWriter.finish`."""
_HIDDEN_BITS = 8 * _SPARED + _WORD_BITS
"""What symbols may cost beyond the bits of their payload: these bytes, and a word in the coder's state."""

# Coder models by table, built when first used; they go when their table goes.
_models: WeakKeyDictionary[GaussianTables | CategoricalTable, dict[int, Any]] = WeakKeyDictionary()


def exact_model(frequencies: NDArray[np.int64]) -> Any:
    """Return the coder's model with exactly these frequencies (n >= 2 entries of at least 1, sum 2^24).

    constriction gives every symbol one unit and spreads the remaining 2^24 - n in proportion to the weights. Weights of
    frequency - 1 sum to just that remainder, so the proportion is 1 and each product an exact float integer.
    """
    return constriction.stream.model.Categorical((frequencies - 1).astype(np.float64), perfect=False, lazy=False)


_BIT = exact_model(np.full(2, 1 << (PRECISION - 1), dtype=np.int64))


def _model(table: GaussianTables | CategoricalTable, index: int = 0) -> Any:
    cached = _models.setdefault(table, {})
    if index not in cached:
        frequencies = table.frequencies(index) if isinstance(table, GaussianTables) else table.frequencies
        cached[index] = exact_model(frequencies)
    return cached[index]


def _groups(tables: NDArray[np.int64]) -> tuple[NDArray[np.intp], list[tuple[int, int, int]]]:
    """Stable order by table, and (table, start, stop) of each group in that order."""
    # small integers are sorted by counting
    order = np.argsort(tables.astype(np.uint16) if tables.max(initial=0) < 1 << 16 else tables, kind="stable")
    counts = np.bincount(tables)
    used = np.flatnonzero(counts)
    stops = np.cumsum(counts[used])
    return order, list(zip(used.tolist(), (stops - counts[used]).tolist(), stops.tolist(), strict=True))


def _repeated(of_table: NDArray[np.int64], groups: list[tuple[int, int, int]]) -> NDArray[np.int64]:
    """The value of its table for each symbol, in the order of the groups."""
    used = [table for table, _, _ in groups]
    counts = [stop - start for _, start, stop in groups]
    repeated: NDArray[np.int64] = np.repeat(of_table[used], counts)
    return repeated


class SymbolWriter:
    """Writes symbols to bytes; `SymbolReader` makes the same calls in the same order."""

    def __init__(self) -> None:
        """Start with nothing written."""
        self._encoder = constriction.stream.queue.RangeEncoder()

    def write_gaussian(self, symbols: ArrayLike, table_index: ArrayLike, tables: GaussianTables) -> None:
        """Append int32 symbols (n,), each under its table (n,) of `tables`.

        Any shape is taken in C order. Raises ValueError, before anything is written, for symbols outside int32 or
        indices that name no table.
        """
        values, index = tables.check(symbols, table_index)
        order, groups = _groups(index)
        values, support = values[order], _repeated(tables.supports, groups)
        positions = values + support
        escaped = (positions < 0) | (values > support)
        some = bool(escaped.any())
        if some:
            positions[escaped] = 2 * support[escaped] + 1
        positions = positions.astype(np.int32)
        for table, start, stop in groups:
            self._encoder.encode(positions[start:stop], _model(tables, table))
        if some:
            outside = np.abs(values[escaped]) - support[escaped]
            self._write_bits(_escape_bits(outside, values[escaped] < 0))

    def write_categorical(self, symbols: ArrayLike, table: CategoricalTable) -> None:
        """Append symbols (n,), integers in 0..m-1, in C order; ValueError, before anything is written, for others."""
        values = table.check(symbols)
        if values.size and len(table) > 1:
            self._encoder.encode(values.astype(np.int32), _model(table))

    def finish(self, implied: bytes = b"") -> bytes:
        """Return the shortest bytes that, followed by zero bytes, decode to what was written; b"" if nothing was.

        If the bytes `implied`, which the caller can do without, decode to what was written, these are returned.

        The coder ends with an interval of numbers that all decode alike. Its own ending is whole 32-bit words; here
        the number in the interval with the most trailing zero bytes is taken and these are cut off. By chance they
        could be many: at most `_SPARED` bytes of the words put out so far are, so that a reader knows what symbols can
        be in a payload from its length.
        """
        words = self._encoder.get_compressed()
        position, (lower, size) = self._encoder.pos()
        least = position * _WORD_BITS // 8 - _SPARED
        width = position * _WORD_BITS + _STATE_BITS
        sealed = int.from_bytes(words.astype(">u4").tobytes(), "big") << (width - words.size * _WORD_BITS)
        # The state knows the interval's start modulo 2^64; the sealed number lies in the interval and gives the rest.
        start = sealed - ((sealed - lower) % (1 << _STATE_BITS))
        stop = min(start + size, 1 << width)
        if (
            implied
            and len(implied) >= least
            and start <= int.from_bytes(implied, "big") << (width - 8 * len(implied)) < stop
        ):
            return implied
        number = start
        for zeros in range(8, width + 1, 8):
            candidate = -((-start) >> zeros) << zeros
            # A multiple of a larger power of two is one of the smaller too, so the first miss ends the search.
            if candidate >= stop:
                break
            number = candidate
            if candidate == 0:
                break
        return number.to_bytes(width // 8, "big").rstrip(b"\0").ljust(least, b"\0")

    def _write_bits(self, bits: NDArray[np.int32]) -> None:
        self._encoder.encode(bits, _BIT)


def _escape_bits(numbers: NDArray[np.int64], negative: NDArray[np.bool_]) -> NDArray[np.int32]:
    length = escape_prefix_length(numbers)
    rounds: list[NDArray[Any]] = []
    active = length
    for count in range(_MAX_PREFIX):
        if not active.size:
            break
        rounds.append(active > count)
        active = active[active > count]
    for plane in range(_MAX_PREFIX - 1, -1, -1):
        rounds.append((numbers[length > plane] >> plane) & 1)
    rounds.append(negative)
    return np.concatenate([bits.astype(np.int32) for bits in rounds])


class SymbolReader:
    """Reads symbols back from bytes: the calls of `SymbolWriter` in the same order.

    Past the end of the data zero bytes are read, so truncated data gives wrong symbols or FormatError; recognising them
    is the task of the container's checks. But no symbol is free: FormatError tells when those that are asked for, or
    those that were read, cost more bits than a writer would have left in so few bytes.
    """

    def __init__(self, data: bytes) -> None:
        """Take what `SymbolWriter.finish` returned, possibly followed by any number of zero bytes."""
        padded = data + bytes(-len(data) % 4 + _STATE_BITS // 8)
        words = np.frombuffer(padded, dtype=">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._bits_left = 8.0 * len(data) + _HIDDEN_BITS

    def read_gaussian(self, table_index: ArrayLike, tables: GaussianTables) -> NDArray[np.int32]:
        """Read as many int32 symbols as there are table indices: (n,) in their order.

        Raises ValueError for an index that names no table and FormatError for data that no writer produces.
        """
        index = tables.check_index(table_index)
        self.afford(float(tables.least_bits[index].sum()))
        order, groups = _groups(index)
        support = _repeated(tables.supports, groups)
        positions = np.empty(index.size, dtype=np.int64)
        for table, start, stop in groups:
            positions[start:stop] = self._decode(_model(tables, table), stop - start)
        values = positions - support
        escaped = values > support
        if escaped.any():
            values[escaped] = self._read_escapes(support[escaped])
        symbols = np.empty(index.size, dtype=np.int32)
        symbols[order] = values
        self._spend(tables.ideal_bits(symbols, index))
        return symbols

    def read_categorical(self, n: int, table: CategoricalTable) -> NDArray[np.int32]:
        """Read n symbols in 0..m-1: int32 (n,). Raises FormatError for data that no writer produces."""
        if n < 0:
            raise ValueError(f"The number of symbols must not be negative, but is {n}.")
        if len(table) == 1 or n == 0:
            return np.zeros(n, dtype=np.int32)
        self.afford(n * table.least_bits)
        symbols = self._decode(_model(table), n)
        self._spend(table.ideal_bits(symbols))
        return symbols

    def afford(self, bits: float) -> None:
        """Raise FormatError unless symbols of so many bits may be in what has not been read."""
        # half a bit for the rounding of the sum: the logarithms of less than 2^40 symbols
        if bits > self._bits_left + 0.5:
            raise FormatError("The coded data is too short for its symbols: it is damaged or truncated.")

    def _spend(self, bits: float) -> None:
        self.afford(bits)
        self._bits_left -= bits

    def _decode(self, model: Any, n: int) -> NDArray[np.int32]:
        try:
            symbols: NDArray[np.int32] = self._decoder.decode(model, n)
        except AssertionError as error:  # constriction's report of a number outside every symbol's interval
            raise FormatError("The coded data is damaged: it holds a code that no symbol has.") from error
        return symbols

    def _read_escapes(self, support: NDArray[np.int64]) -> NDArray[np.int64]:
        length = np.zeros(support.size, dtype=np.int64)
        active = np.arange(support.size)
        for _ in range(_MAX_PREFIX):
            if not active.size:
                break
            active = active[self._decode(_BIT, active.size) == 1]
            length[active] += 1
        numbers = np.left_shift(np.int64(1), length)
        for plane in range(_MAX_PREFIX - 1, -1, -1):
            at = np.flatnonzero(length > plane)
            if at.size:
                numbers[at] |= self._decode(_BIT, at.size).astype(np.int64) << plane
        values = np.where(self._decode(_BIT, support.size) == 1, -1, 1) * (numbers + support)
        if values.min() < -(2**31) or values.max() >= 2**31:
            raise FormatError("The coded data is damaged: a symbol exceeds 32 bits.")
        return values
