"""Maps of indices under tables that learn: the documented counting, round trips, what repetition costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.bitstream import CategoricalTable, FormatError, SymbolReader, SymbolWriter, read_map, write_map

PRIOR = CategoricalTable.from_counts([5, 0, 1, 1, 900, 3, 77])


def coded(indices: np.ndarray, prior: CategoricalTable) -> tuple[bytes, float]:
    writer = SymbolWriter()
    bits = write_map(indices.ravel(), indices.shape[1], prior, writer)
    return writer.finish(), bits


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, CategoricalTable]:
    codes, height, width = draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(0, 2**20), min_size=codes, max_size=codes))
    values = draw(st.lists(st.integers(0, codes - 1), min_size=height * width, max_size=height * width))
    return np.array(values).reshape(height, width), CategoricalTable.from_counts(counts)


@given(maps())
def test_round_trip(drawn: tuple[np.ndarray, CategoricalTable]) -> None:
    indices, prior = drawn
    payload, bits = coded(indices, prior)
    height, width = indices.shape
    assert np.array_equal(read_map(height, width, prior, SymbolReader(payload)), indices.ravel())
    assert abs(8 * len(payload) - bits) <= 72  # the end of the range coder


def test_what_is_repeated_costs_less_and_less() -> None:
    prior = CategoricalTable.uniform(256)
    random = np.random.default_rng(1)
    bits = [coded(np.full((k, 8), 77), prior)[1] for k in (1, 2, 4)]
    assert bits[0] < 8 + 7 * 2.1
    assert (bits[2] - bits[1]) / 2 < bits[1] - bits[0] < bits[0] - 8
    wild = random.integers(0, 256, (8, 12))
    assert coded(wild, prior)[1] < 1.2 * 8 * wild.size
    assert coded(np.sort(wild // 64, axis=None).reshape(8, 12), prior)[1] < 0.3 * 8 * wild.size


def test_a_prior_of_one_entry_writes_nothing() -> None:
    assert coded(np.zeros((3, 3), int), CategoricalTable.uniform(1)) == (b"", 0.0)


def test_impossible_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        coded(np.array([[7]]), PRIOR)
    with pytest.raises(FormatError):
        read_map(40, 40, CategoricalTable.uniform(1 << 16), SymbolReader(np.random.default_rng(1).bytes(30)))


@pytest.mark.parametrize("codes", [2, 256, 1 << 16])
def test_the_largest_map_fits_the_numbers(codes: int) -> None:
    """After two million of one index the weights still are exact."""
    from glc_train.bitstream import adaptive

    learner = adaptive._Learner(CategoricalTable.uniform(codes), 4)
    learner._weights[1] += (adaptive._MOST - 4) << 16
    learner._seen = [1] * 4
    table = learner.table()
    assert table.frequencies[1] / 2**24 > 0.95
    with pytest.raises(ValueError, match="at most 2097152 indices"):
        write_map(np.zeros(adaptive._MOST + 1, int), 4, PRIOR, SymbolWriter())
