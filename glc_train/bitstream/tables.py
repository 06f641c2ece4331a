"""Integer frequency tables: what encoder and decoder must share to the last unit.

Every table sums to exactly 2^24. A decoder that disagrees with its encoder by a single unit in one entry reads garbage
from there on, so nothing here depends on the platform: float arithmetic only proposes values that are then rounded, and
the distance of every value to its rounding edge (at least 1e-5 units for the default tables; a test measures it) is
thousands of times the error of any C library's erfc. The default tables are also compared with a pinned SHA-256.
"""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRECISION = 24
"""Bits of precision of a table: the frequencies of each table sum to 2^24."""

SCALE_FRACTION_BITS = 12
"""Standard deviations arrive as integers in units of 2^-12."""

ESCAPE_FREQUENCY = 16
"""Frequency of the escape symbol (probability 2^-20): costs 1.4e-6 bits per symbol, and 20 bits when it is needed."""

MAX_CATEGORIES = 1 << 20
_TOTAL = 1 << PRECISION
_TAIL = 2.0**-20
_MAX_ESCAPE_PREFIX = 31
_DEFAULTS = (0.05, 64.0, 256)
_DEFAULT_SHA256 = "bf283041ce489e8ed7473fb17aabe58030ccd4edfaa8de4e0a77674f54abf002"


def escape_prefix_length(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """floor(log2(n)) of integers n in 1..2^32-1: the number of low bits in their Exp-Golomb code."""
    # frexp is exact for integers below 2^53: n = m * 2^e with m in [0.5, 1).
    return np.frexp(n.astype(np.float64))[1].astype(np.int64) - 1


class GaussianTables:
    """Zero-mean Gaussians integrated over unit bins, one table per standard deviation of a geometric grid.

    Table i covers the integers -K..K, K = `supports[i]`, such that the mass outside is at most 2^-20, and ends with one
    ESCAPE symbol (position 2K+1) that stands for any other integer; `SymbolWriter` adds its value. Each entry is at
    least 1, the rounding remainder goes to the centre.
    """

    def __init__(self, scale_min: float = 0.05, scale_max: float = 64.0, levels: int = 256) -> None:
        """Build `levels` tables for standard deviations from scale_min to scale_max (in units of the rounding step).

        Raises ValueError for a grid that is empty, not increasing, or finer than the unit 2^-12 of the scales, and
        RuntimeError if the default tables differ from the pinned ones on this platform.
        """
        if not (0.0 < scale_min < scale_max <= 4096.0 and 2 <= levels <= 65536):
            raise ValueError(
                "Gaussian tables need 0 < scale_min < scale_max <= 4096 and 2 to 65536 levels, "
                f"not {scale_min}, {scale_max}, {levels}."
            )
        ratio = scale_max / scale_min
        self.scales: tuple[float, ...] = tuple(scale_min * ratio ** (i / (levels - 1)) for i in range(levels))
        self.thresholds: NDArray[np.int64] = _thresholds(self.scales)
        tables = [_gaussian_frequencies(scale) for scale in self.scales]
        self.supports: NDArray[np.int64] = np.array([(len(table) - 2) // 2 for table in tables], dtype=np.int64)
        self._offsets = np.concatenate([[0], np.cumsum([len(table) for table in tables])]).astype(np.int64)
        self._flat = np.concatenate(tables)
        self._bits = PRECISION - np.log2(self._flat)
        self.least_bits: NDArray[np.float64] = np.array([PRECISION - np.log2(table.max()) for table in tables])
        """Bits of each table's cheapest symbol: above 0, for none has all of the 2^24 units."""
        if (scale_min, scale_max, levels) == _DEFAULTS and self.sha256() != _DEFAULT_SHA256:
            raise RuntimeError(
                "The Gaussian frequency tables computed on this platform differ from the format's, so files would not "
                "be exchangeable: please report the operating system, C library and Python version."
            )

    def __len__(self) -> int:
        """Return the number of tables."""
        return len(self.scales)

    def frequencies(self, table: int) -> NDArray[np.int64]:
        """Frequencies of symbols -K..K and ESCAPE, int64 (2K+2,), each at least 1, sum 2^24."""
        if not 0 <= table < len(self):
            raise ValueError(f"There is no Gaussian table {table}: the last one is {len(self) - 1}.")
        return self._flat[self._offsets[table] : self._offsets[table + 1]].copy()

    def index(self, scale_fixed: ArrayLike) -> NDArray[np.int32]:
        """Nearest table (in log scale) of standard deviations given as integers in units of 2^-12, any shape.

        Zero, negative and huge values fall on the first and last table. Compares integers only. Raises ValueError for
        anything but integers.
        """
        fixed = np.asarray(scale_fixed)
        if fixed.dtype.kind not in "iu" or fixed.dtype == np.uint64:
            raise ValueError(f"Scales must be integers in units of 2^-{SCALE_FRACTION_BITS}, not {fixed.dtype}.")
        return np.searchsorted(self.thresholds, fixed.astype(np.int64), side="right").astype(np.int32)

    def ideal_bits(self, symbols: ArrayLike, table_index: ArrayLike) -> float:
        """Code length in bits of int32 `symbols` under the tables `table_index` (same shape), escapes included."""
        values, tables = self.check(symbols, table_index)
        support = self.supports[tables]
        position = values + support
        escaped = (position < 0) | (values > support)
        if not escaped.any():
            return float(self._bits[self._offsets[tables] + position].sum())
        position[escaped] = 2 * support[escaped] + 1
        length = escape_prefix_length(np.abs(values[escaped]) - support[escaped])
        bits = self._bits[self._offsets[tables] + position]
        return float(bits.sum() + (np.minimum(length + 1, _MAX_ESCAPE_PREFIX) + length + 1).sum())

    def check(self, symbols: ArrayLike, table_index: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return symbols and table indices as flat int64 arrays; ValueError if they do not fit each other or int32."""
        values, tables = as_int64(symbols, "Symbols"), self.check_index(table_index)
        if values.shape != tables.shape:
            raise ValueError(f"There are {values.size} symbols but {tables.size} table indices.")
        if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
            raise ValueError("Symbols must fit 32-bit signed integers.")
        return values, tables

    def check_index(self, table_index: ArrayLike) -> NDArray[np.int64]:
        """Return table indices as a flat int64 array; ValueError if one names no table."""
        tables = as_int64(table_index, "Table indices")
        if tables.size and (tables.min() < 0 or tables.max() >= len(self)):
            raise ValueError(f"Table indices must lie in 0..{len(self) - 1}.")
        return tables

    def sha256(self) -> str:
        """Hash of all supports, thresholds and frequencies: equal hashes code alike."""
        digest = hashlib.sha256()
        for array in (self.supports, self.thresholds, self._flat):
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()


class CategoricalTable:
    """One table over the symbols 0..m-1, for example the indices of a codebook."""

    def __init__(self, frequencies: ArrayLike) -> None:
        """Take m integer frequencies (1 <= m <= 2^20), each at least 1, that sum to 2^24; ValueError otherwise."""
        self._frequencies = as_int64(frequencies, "Frequencies").copy()
        m = self._frequencies.size
        if not 1 <= m <= MAX_CATEGORIES:
            raise ValueError(f"A categorical table has 1 to {MAX_CATEGORIES} entries, not {m}.")
        if self._frequencies.min() < 1 or int(self._frequencies.sum()) != _TOTAL:
            raise ValueError("Frequencies must be at least 1 each and sum to 2^24.")

    @classmethod
    def uniform(cls, m: int) -> CategoricalTable:
        """All m symbols equally likely (up to one unit where m does not divide 2^24)."""
        if not 1 <= m <= MAX_CATEGORIES:
            raise ValueError(f"A categorical table has 1 to {MAX_CATEGORIES} entries, not {m}.")
        return cls.from_counts(np.ones(m, dtype=np.int64))

    @classmethod
    def from_counts(cls, counts: ArrayLike) -> CategoricalTable:
        """Frequencies proportional to non-negative integer counts (m,), apportioned by largest remainder.

        Every symbol keeps at least one unit, so an unseen one costs at most 24 bits; add to the counts to smooth more.
        Counts that are all zero give the uniform table. Integer arithmetic only. Raises ValueError for negative or
        non-integer counts and for a total of 2^38 or more.
        """
        hits = as_int64(counts, "Counts")
        m = hits.size
        if not 1 <= m <= MAX_CATEGORIES:
            raise ValueError(f"A categorical table has 1 to {MAX_CATEGORIES} entries, not {m}.")
        if hits.min() < 0 or hits.max() >= 2**38 or int(hits.sum()) >= 2**38:
            raise ValueError("Counts must be non-negative and total less than 2^38.")
        total = int(hits.sum())
        if total == 0:
            hits, total = np.ones_like(hits), m
        share = hits * (_TOTAL - m)  # below 2^62: no overflow
        frequencies = 1 + share // total
        left = _TOTAL - int(frequencies.sum())
        winners = np.argsort(-(share % total), kind="stable")[:left]  # ties: the lower symbol first
        frequencies[winners] += 1
        return cls(frequencies)

    def __len__(self) -> int:
        """Return the number of symbols m."""
        return self._frequencies.size

    @property
    def least_bits(self) -> float:
        """Bits of the cheapest symbol."""
        return float(PRECISION - np.log2(self._frequencies.max()))

    @property
    def frequencies(self) -> NDArray[np.int64]:
        """Frequencies, int64 (m,), each at least 1, sum 2^24."""
        return self._frequencies.copy()

    def ideal_bits(self, symbols: ArrayLike) -> float:
        """Code length in bits of `symbols`, integers in 0..m-1, any shape."""
        return float((PRECISION - np.log2(self._frequencies[self.check(symbols)])).sum())

    def check(self, symbols: ArrayLike) -> NDArray[np.int64]:
        """Return symbols as a flat int64 array; ValueError if one is outside 0..m-1."""
        values = as_int64(symbols, "Symbols")
        if values.size and (values.min() < 0 or values.max() >= len(self)):
            raise ValueError(f"Symbols of this categorical table must lie in 0..{len(self) - 1}.")
        return values


def as_int64(values: ArrayLike, what: str) -> NDArray[np.int64]:
    """Flatten an integer array of any shape to int64; ValueError naming `what` for other types."""
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise ValueError(f"{what} must be integers of at most 64 bits with sign, not {array.dtype}.")
    return array.reshape(-1).astype(np.int64)


def _thresholds(scales: tuple[float, ...]) -> NDArray[np.int64]:
    # Table i+1 begins at the geometric mean of the scales i and i+1: the nearest in log scale.
    unit = 1 << SCALE_FRACTION_BITS
    edges = [math.sqrt(low * high) * unit for low, high in pairwise(scales)]
    thresholds = np.array([math.ceil(edge) for edge in edges], dtype=np.int64)
    if np.any(np.diff(thresholds) <= 0):
        raise ValueError(
            f"The grid of {len(scales)} standard deviations is finer than the unit 2^-{SCALE_FRACTION_BITS} of the "
            "scales: use fewer levels or a larger scale_min."
        )
    return thresholds


def _gaussian_frequencies(scale: float) -> NDArray[np.int64]:
    root = scale * math.sqrt(2.0)
    support = 1  # at least -1..1: at the smallest scales +-1 is by far the most likely surprise
    while math.erfc((support + 0.5) / root) > _TAIL:
        support += 1
    tails = [0.5 * math.erfc((k - 0.5) / root) for k in range(1, support + 2)]
    masses = [upper - lower for upper, lower in pairwise(tails)]
    right = np.array([max(1, math.floor(mass * _TOTAL + 0.5)) for mass in masses], dtype=np.int64)
    centre = _TOTAL - ESCAPE_FREQUENCY - 2 * int(right.sum())
    if centre < 1:
        raise ValueError(f"A Gaussian of standard deviation {scale} does not fit a table of {PRECISION} bits.")
    return np.concatenate([right[::-1], [centre], right, [ESCAPE_FREQUENCY]]).astype(np.int64)
