"""Frequency tables against mpmath and SciPy, and against pinned values."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from glc_train.bitstream import CategoricalTable, GaussianTables
from glc_train.bitstream import tables as tables_module

EXPECTED = json.loads((Path(__file__).parents[1] / "expected" / "bitstream_tables.json").read_text())
TOTAL = 2**24


@pytest.fixture(scope="module")
def tables() -> GaussianTables:
    return GaussianTables()


def test_default_tables_are_pinned(tables: GaussianTables) -> None:
    assert tables.sha256() == EXPECTED["sha256"]
    assert len(tables) == EXPECTED["levels"]
    for row in EXPECTED["tables"]:
        assert tables.frequencies(row["index"]).tolist() == row["frequencies"]
        assert tables.supports[row["index"]] == row["support"]
    assert tables.thresholds[:4].tolist() == EXPECTED["first_thresholds"]


def test_a_platform_with_other_tables_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_module.math, "erfc", lambda x, erfc=tables_module.math.erfc: erfc(x) * (1 + 1e-4))
    with pytest.raises(RuntimeError, match="differ from the format's"):
        GaussianTables()


def test_every_table_is_complete_and_symmetric(tables: GaussianTables) -> None:
    for i in range(len(tables)):
        frequencies = tables.frequencies(i)
        assert frequencies.sum() == TOTAL
        assert frequencies.min() >= 1
        assert np.array_equal(frequencies[:-1], frequencies[:-1][::-1])
        assert frequencies.size == 2 * tables.supports[i] + 2


def test_no_value_is_near_a_rounding_edge(tables: GaussianTables) -> None:
    """Fifty digits give the same integers, and every proposal keeps a margin that no C library's error can cross.

    A proposal is a difference of erfc values of at most 1, scaled by 2^24: errors of a few 1e-16 there are below 1e-8
    units. The support's comparison and the thresholds are relative to values near 2^-20 and up to 2^18.
    """
    margin, tail_margin, threshold_margin = 1.0, 1.0, 1.0
    with mpmath.workdps(50):
        low, ratio = mpmath.mpf(0.05), mpmath.mpf(64.0) / mpmath.mpf(0.05)
        scales = [low * ratio ** (mpmath.mpf(i) / 255) for i in range(256)]
        for i, scale in enumerate(scales):
            support, root = int(tables.supports[i]), scale * mpmath.sqrt(2)
            tails = [mpmath.erfc((k - mpmath.mpf(0.5)) / root) / 2 for k in range(1, support + 2)]
            right = [(a - b) * TOTAL for a, b in pairwise(tails)]
            expected = [max(1, int(mpmath.floor(value + 0.5))) for value in right]
            assert tables.frequencies(i)[support + 1 : -1].tolist() == expected
            edges = [value + 0.5 for value in right if value > 0.4]
            margin = min([margin, *(float(abs(edge - mpmath.nint(edge))) for edge in edges)])
            for k in (support - 1, support):
                if k >= 1:
                    tail_margin = min(tail_margin, float(abs(mpmath.erfc((k + mpmath.mpf(0.5)) / root) * 2**20 - 1)))
        for i, (a, b) in enumerate(pairwise(scales)):
            edge = mpmath.sqrt(a * b) * 4096
            assert tables.thresholds[i] == int(mpmath.ceil(edge))
            threshold_margin = min(threshold_margin, float(abs(edge - mpmath.nint(edge))))
    assert margin > 1e-5
    assert tail_margin > 1e-5
    assert threshold_margin > 1e-4


def test_ideal_bits_agree_with_scipy(tables: GaussianTables) -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(60, 256, 4000)
    scales = np.array(tables.scales)[index]
    symbols = np.rint(rng.normal(0, scales)).astype(np.int32)
    mass = norm.cdf((symbols + 0.5) / scales) - norm.cdf((symbols - 0.5) / scales)
    assert tables.ideal_bits(symbols, index) == pytest.approx(-np.log2(mass).sum(), rel=1e-4)


def test_escape_costs(tables: GaussianTables) -> None:
    # Table 0 covers -1..1. An escape of 20 bits, then prefix + low bits + sign.
    for value, extra in ((2, 2), (-2, 2), (3, 4), (5, 6), (2**31 - 1, 30 + 1 + 30 + 1), (-(2**31), 62)):
        assert tables.ideal_bits([value], [0]) == pytest.approx(20 + extra)


def test_index_takes_the_nearest_scale(tables: GaussianTables) -> None:
    fixed = np.arange(1, 64 * 4096 + 5000, 7)
    nearest = np.abs(np.log(fixed / 4096)[:, None] - np.log(tables.scales)[None, :]).argmin(axis=1)
    assert np.array_equal(tables.index(fixed), nearest)
    assert tables.index(np.array([[-(2**63), 0], [2**63 - 1, 4096]])).shape == (2, 2)
    assert tables.index(np.array([-(2**63), -1, 0, 2**63 - 1])).tolist() == [0, 0, 0, 255]
    assert tables.index(tables.thresholds).tolist() == list(range(1, 256))
    assert tables.index(tables.thresholds - 1).tolist() == list(range(255))


def test_index_refuses_floats(tables: GaussianTables) -> None:
    with pytest.raises(ValueError, match="must be integers"):
        tables.index(np.array([1.0]))


@pytest.mark.parametrize("arguments", [(0.0, 64.0, 256), (1.0, 0.5, 256), (0.1, 1.0, 1), (0.01, 5000.0, 8)])
def test_impossible_grids_are_refused(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="Gaussian tables need"):
        GaussianTables(*arguments)


def test_too_fine_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="finer than the unit"):
        GaussianTables(0.05, 0.06, 256)


def test_uniform_table() -> None:
    assert CategoricalTable.uniform(16384).frequencies.tolist() == [1024] * 16384
    assert CategoricalTable.uniform(3).frequencies.tolist() == [5592406, 5592405, 5592405]
    assert CategoricalTable.uniform(16384).ideal_bits([0, 16383, 5]) == 42.0
    assert CategoricalTable.uniform(1).ideal_bits([0, 0]) == 0.0
    assert len(CategoricalTable.uniform(2**20)) == 2**20


def test_counts_are_apportioned_by_largest_remainder() -> None:
    # 2^24 - 3 units over 1:1:1 counts beside three zero entries would leave remainders; ties go to the lower symbol.
    assert CategoricalTable.from_counts([1, 1, 1]).frequencies.tolist() == [5592406, 5592405, 5592405]
    assert CategoricalTable.from_counts([0, 7, 0]).frequencies.tolist() == [1, TOTAL - 2, 1]
    assert CategoricalTable.from_counts([0, 0]).frequencies.tolist() == [TOTAL // 2] * 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=50))
def test_counts_give_valid_proportional_tables(counts: list[int]) -> None:
    frequencies = CategoricalTable.from_counts(counts).frequencies
    assert frequencies.min() >= 1
    assert frequencies.sum() == TOTAL
    if sum(counts):
        share = np.array([1 + count * (TOTAL - len(counts)) / sum(counts) for count in counts])
        assert np.abs(frequencies - share).max() <= 1.0


@pytest.mark.parametrize("counts", [[], [-1, 2], [2**38], [2**62, 2**62], [0.5, 0.5]])
def test_unusable_counts_are_refused(counts: list[float]) -> None:
    with pytest.raises(ValueError, match=r"entries, not 0|non-negative and total|must be integers"):
        CategoricalTable.from_counts(counts)


def test_unusable_frequencies_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 2\\^24"):
        CategoricalTable([TOTAL - 1, 2])
    with pytest.raises(ValueError, match="sum to 2\\^24"):
        CategoricalTable([TOTAL, 0])
    for m in (0, 2**20 + 1):
        with pytest.raises(ValueError, match="entries, not"):
            CategoricalTable.uniform(m)


def test_symbols_and_indices_are_checked(tables: GaussianTables) -> None:
    for symbols, index, message in (
        ([1, 2], [0], "2 symbols but 1"),
        ([1], [256], r"0\.\.255"),
        ([1], [-1], r"0\.\.255"),
        ([2**31], [0], "32-bit"),
        ([0.5], [0], "must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            tables.ideal_bits(symbols, index)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        CategoricalTable.uniform(5).ideal_bits([5])
    with pytest.raises(ValueError, match="no Gaussian table"):
        tables.frequencies(256)
