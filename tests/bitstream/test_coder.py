"""Round trips, sizes and golden bytes of the entropy coder."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import constriction
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glc_train.bitstream import CategoricalTable, FormatError, GaussianTables, SymbolReader, SymbolWriter
from glc_train.bitstream.coder import exact_model

EXPECTED = json.loads((Path(__file__).parents[1] / "expected" / "bitstream_coder.json").read_text())
TABLES = GaussianTables()
COARSE = GaussianTables(0.2, 20.0, 16)
COUNTED = CategoricalTable.from_counts([5, 0, 1000, 3, 77])

small = st.integers(-6, 6)
extreme = st.sampled_from([-(2**31), 2**31 - 1, -(2**31) + 1, 2**30, -400, 314, 315, -315, 316])
pair = st.tuples(st.one_of(small, small, st.integers(-(2**31), 2**31 - 1), extreme), st.integers(0, 255))
gaussian_call = st.tuples(st.just("gaussian"), st.lists(pair, max_size=40))
categorical_call = st.tuples(st.just("categorical"), st.lists(st.integers(0, 4), max_size=40))
zeros_call = st.tuples(st.just("categorical"), st.integers(0, 200).map(lambda n: [0] * n))  # all bytes of them are zero
Calls = list[tuple[str, list]]


def write(calls: Calls) -> tuple[bytes, float]:
    """Coded bytes and ideal bits."""
    writer, bits = SymbolWriter(), 0.0
    for kind, content in calls:
        if kind == "gaussian":
            symbols, index = [s for s, _ in content], [i for _, i in content]
            writer.write_gaussian(symbols, index, TABLES)
            bits += TABLES.ideal_bits(symbols, index)
        else:
            writer.write_categorical(content, COUNTED)
            bits += COUNTED.ideal_bits(content)
    return writer.finish(), bits


def assert_reads(data: bytes, calls: Calls) -> None:
    reader = SymbolReader(data)
    for kind, content in calls:
        if kind == "gaussian":
            decoded = reader.read_gaussian([i for _, i in content], TABLES)
            assert decoded.dtype == np.int32
            assert decoded.tolist() == [s for s, _ in content]
        else:
            assert reader.read_categorical(len(content), COUNTED).tolist() == content


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(gaussian_call, categorical_call, zeros_call), max_size=6))
@example([("categorical", [0] * 200)])
@example([("gaussian", [(-(2**31), 0), (2**31 - 1, 0), (2, 0), (-2, 0)])])
@example([("categorical", [1] * 40)])
def test_round_trip_and_size(calls: Calls) -> None:
    data, bits = write(calls)
    assert_reads(data, calls)
    assert_reads(data + bytes(9), calls)
    assert len(data) <= bits / 8 + 1.125
    assert not data.endswith(b"\0") or len(data) <= bits / 8 - 4  # zero bytes that tell how much was written


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(gaussian_call, categorical_call), min_size=1, max_size=3))
def test_no_shorter_prefix_or_neighbour_decodes(calls: Calls) -> None:
    """The ending is the shortest: no string one byte shorter decodes to the same symbols."""
    data, _ = write(calls)
    if not data or data.endswith(b"\0"):
        return
    number = int.from_bytes(data[:-1], "big")
    for candidate in (number, number + 1):
        if candidate < 256 ** (len(data) - 1):
            with pytest.raises((AssertionError, FormatError)):
                assert_reads(candidate.to_bytes(len(data) - 1, "big"), calls)


def test_nothing_costs_nothing() -> None:
    writer = SymbolWriter()
    assert writer.finish() == b""
    writer.write_gaussian([], [], TABLES)
    writer.write_categorical([], COUNTED)
    writer.write_categorical([0, 0], CategoricalTable.uniform(1))
    assert writer.finish() == b""
    reader = SymbolReader(b"")
    assert reader.read_gaussian([], TABLES).shape == (0,)
    assert reader.read_categorical(0, COUNTED).shape == (0,)
    assert reader.read_categorical(2, CategoricalTable.uniform(1)).tolist() == [0, 0]


def test_golden_bytes() -> None:
    """Fixed integers give the pinned bytes: the format itself, on every platform."""
    for case in EXPECTED["cases"]:
        writer = SymbolWriter()
        writer.write_categorical(case["z"], CategoricalTable.from_counts(case["counts"]))
        writer.write_gaussian(case["y"], case["index"], TABLES)
        assert writer.finish().hex() == case["hex"]
        reader = SymbolReader(bytes.fromhex(case["hex"]))
        z = reader.read_categorical(len(case["z"]), CategoricalTable.from_counts(case["counts"]))
        assert z.tolist() == case["z"]
        assert reader.read_gaussian(case["index"], TABLES).tolist() == case["y"]


def intervals(frequencies: np.ndarray) -> tuple[list[int], list[int]]:
    """Start and size of every symbol's interval, read off the coder's state after that one symbol."""
    model, unit = exact_model(frequencies), 2**40 - 1  # the fresh coder's range 2^64 - 1, divided by 2^24
    starts, sizes = [], []
    for symbol in range(frequencies.size):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(symbol, model)
        _, (low, size) = encoder.pos()
        assert low % unit == 0
        assert size % unit == 0
        starts.append(low // unit)
        sizes.append(size // unit)
    return starts, sizes


def test_coder_uses_exactly_the_given_frequencies() -> None:
    learned = CategoricalTable.from_counts(np.random.default_rng(0).integers(0, 9, 5000) ** 6)
    uneven = CategoricalTable.from_counts([1, 0, 10**9, 0, 3])
    choice = [TABLES.frequencies(i) for i in (0, 1, 17, 60, 100, 128, 190, 255)]
    for frequencies in [*choice, learned.frequencies, uneven.frequencies, CategoricalTable.uniform(3).frequencies]:
        starts, sizes = intervals(frequencies)
        assert sizes == frequencies.tolist()
        assert starts == [0, *np.cumsum(frequencies)[:-1].tolist()]


def test_large_alphabet() -> None:
    table = CategoricalTable.uniform(2**20)
    symbols = np.random.default_rng(1).integers(0, 2**20, 1000)
    writer = SymbolWriter()
    writer.write_categorical(symbols, table)
    data = writer.finish()
    assert len(data) <= 2501
    assert np.array_equal(SymbolReader(data).read_categorical(1000, table), symbols)


def test_tables_of_several_kinds_mix() -> None:
    writer = SymbolWriter()
    writer.write_gaussian([5, -5, 0], [15, 3, 0], COARSE)
    writer.write_gaussian([5, -5, 0], [15, 3, 0], TABLES)
    reader = SymbolReader(writer.finish())
    assert reader.read_gaussian([15, 3, 0], COARSE).tolist() == [5, -5, 0]
    assert reader.read_gaussian([15, 3, 0], TABLES).tolist() == [5, -5, 0]


def test_refused_calls_write_nothing() -> None:
    writer = SymbolWriter()
    for symbols, index, message in (
        ([1, 2], [0], "2 symbols but 1"),
        ([1], [256], "must lie in"),
        ([2**31], [0], "32-bit"),
        ([0.5], [0], "must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            writer.write_gaussian(symbols, index, TABLES)
    with pytest.raises(ValueError, match="must lie in"):
        writer.write_categorical([0, 5], COUNTED)
    assert writer.finish() == b""
    with pytest.raises(ValueError, match=r"0\.\.255"):
        SymbolReader(b"").read_gaussian([256], TABLES)
    with pytest.raises(ValueError, match="negative"):
        SymbolReader(b"").read_categorical(-1, COUNTED)


def test_finish_may_be_called_between_writes() -> None:
    writer = SymbolWriter()
    writer.write_categorical([1, 2], COUNTED)
    first = writer.finish()
    writer.write_categorical([3], COUNTED)
    assert SymbolReader(first).read_categorical(2, COUNTED).tolist() == [1, 2]
    assert SymbolReader(writer.finish()).read_categorical(3, COUNTED).tolist() == [1, 2, 3]


def test_garbage_gives_symbols_or_format_errors() -> None:
    rng = np.random.default_rng(2)
    index = rng.integers(0, 256, 50)
    outcomes = {"symbols": 0, "error": 0}
    for trial in range(10_000):
        head = b"\xff" * int(rng.integers(0, 9)) if trial % 2 else b""
        reader = SymbolReader(head + rng.bytes(int(rng.integers(0, 40))))
        try:
            reader.read_categorical(5, COUNTED)
            reader.read_gaussian(index, TABLES)
            outcomes["symbols"] += 1
        except FormatError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_more_symbols_than_fit_are_refused_before_any_is_read(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol costs least in the narrowest table: 1.5e-6 bits, or what the likeliest index of a codebook takes."""
    monkeypatch.setattr(SymbolReader, "_decode", lambda *_: pytest.fail("something was read"))
    data = b"\xaa" * length
    for table in (COUNTED, CategoricalTable.uniform(1024)):
        fitting = math.ceil((8 * length + 96) / table.least_bits)
        with pytest.raises(FormatError, match="too short for its symbols"):
            SymbolReader(data).read_categorical(fitting + 5, table)
    with pytest.raises(FormatError, match="too short for its symbols"):
        SymbolReader(data).read_gaussian(np.full(8 * length + 97, 180), TABLES)
    assert 1.5e-6 < TABLES.least_bits.min() < 1.6e-6
    assert TABLES.least_bits[180] > 1


def test_symbols_that_cost_more_than_the_payload_are_refused() -> None:
    """Where the bytes may hold that many cheap symbols, those that come out count with what they cost."""
    index, rng = np.zeros(20, dtype=np.int32), np.random.default_rng(8)
    refused = 0
    for _ in range(50):
        reader = SymbolReader(rng.bytes(8))
        try:
            for _ in range(100):
                reader.read_gaussian(index + 60, TABLES)
        except FormatError:
            refused += 1
    assert refused == 50


def test_escaped_value_beyond_32_bits_is_refused() -> None:
    """A hand-made stream: ESCAPE, 31 prefix ones, 31 low ones, positive: |value| = 2^32 - 1 + K."""
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(3, exact_model(TABLES.frequencies(0)))
    bits = np.ones(63, dtype=np.int32)
    bits[-1] = 0
    encoder.encode(bits, exact_model(np.full(2, 2**23)))
    data = encoder.get_compressed().astype(">u4").tobytes()
    with pytest.raises(FormatError, match="exceeds 32 bits"):
        SymbolReader(data).read_gaussian([0], TABLES)


def test_throughput_and_size_of_a_large_picture() -> None:
    """400,000 symbols: mostly near-certain zeros as in a real latent, well inside a second each way."""
    rng = np.random.default_rng(3)
    index = np.where(rng.random(400_000) < 0.8, 0, rng.integers(0, 256, 400_000))
    symbols = np.rint(rng.normal(0, np.array(TABLES.scales)[index])).astype(np.int32)
    SymbolWriter().write_gaussian(np.zeros(256, dtype=np.int32), np.arange(256), TABLES)  # builds the models
    times = []
    for _ in range(3):
        start = time.perf_counter()
        writer = SymbolWriter()
        writer.write_gaussian(symbols, index, TABLES)
        data = writer.finish()
        decoded = SymbolReader(data).read_gaussian(index, TABLES)
        times.append(time.perf_counter() - start)
    assert np.array_equal(decoded, symbols)
    assert len(data) <= TABLES.ideal_bits(symbols, index) / 8 * 1.0005 + 2
    assert min(times) < 1.0
