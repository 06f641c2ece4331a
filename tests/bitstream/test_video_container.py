"""The .glcv container: its layout."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_train.bitstream import (
    IMPLIED,
    CategoricalTable,
    FormatError,
    GaussianTables,
    SymbolReader,
    SymbolWriter,
    VideoHeader,
    VideoReader,
    VideoWriter,
)
from glc_train.bitstream.fields import crc8, crc16, pack_number, unpack_number
from glc_train.bitstream.video_container import pack_end, pack_video_header, unpack_end, unpack_video_header
from tests.bitstream.clip_files import HEADER, REPEATED, SHORT, Payloads, expected, file_of, play

# ------------------------------------------------------------------ layout


def test_golden_bytes() -> None:
    """416×240, quality 21, 30/s, intra period 3, reset interval 32; written out after docs/format.md."""
    expected = (
        "ad 0d 87 9fdea8 09 1e 01 03 20 beef 07ef"
        "ff56 00 19 0000 faf0 51f0 aabb" + 23 * "00"  # 25 bytes are the least for so many pixels
        + "03 d5 010203"
        "f1 5f"
        "ff56 03 19 cf14 3ce2 e978 cc" + 24 * "00"
        + "00 3c"
        "fe56 0649 05 01 03 39 000c 2b08"
    )  # fmt: skip
    data = file_of(replace(HEADER, intra_period=3), [b"\xaa\xbb", b"\x01\x02\x03", REPEATED, b"\xcc", IMPLIED])
    assert data.hex() == expected.replace(" ", "")


def test_golden_header_with_another_pattern() -> None:
    header = replace(HEADER, pattern=(0, 2), intra_period=None, full_range=True, matrix="bt601", fps=(30000, 1001))
    data = pack_video_header(header)
    assert data.hex() == "ad 13 87 9fdea8 04 b0ea01 e907 00 20 02 00 02 beef 15f9".replace(" ", "")
    assert unpack_video_header(data) == header


def test_what_records_cost() -> None:
    writer = VideoWriter(io.BytesIO(), HEADER)
    assert writer.size == 15
    assert writer.intra(bytes(25), 0) == 10 + 25
    assert [writer.conditional(b"\x01" * n, 5) - n for n in (1, 75, 191, 192, 12479, 12480)] == [2, 2, 2, 3, 3, 5]
    assert writer.conditional(IMPLIED, 5) == 2
    assert writer.conditional(b"", 5) == 3
    assert writer.repeat(5) == 2
    assert writer.close(5) == 10


@settings(max_examples=200)
@given(
    st.integers(1, 65536), st.integers(1, 65536), st.tuples(st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1)),
    st.sampled_from(["bt601", "bt709"]), st.booleans(), st.integers(0, 63), st.integers(0, 65535),
    st.none() | st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1),
    st.just(HEADER.pattern) | st.lists(st.integers(0, 255), min_size=1, max_size=64).map(tuple), st.booleans(),
)  # fmt: skip
def test_headers_come_back(
    width: int, height: int, fps: tuple[int, int], matrix: Any, full: bool, quality: int, fingerprint: int,
    period: int | None, reset: int, pattern: tuple[int, ...], cuts: bool,
) -> None:  # fmt: skip
    header = VideoHeader(
        width=width, height=height, fps=fps, matrix=matrix, full_range=full, quality=quality,
        fingerprint=fingerprint, intra_period=period, reset_interval=reset, pattern=pattern, scene_cuts=cuts,
    )  # fmt: skip
    data = pack_video_header(header)
    assert unpack_video_header(data) == header
    assert VideoReader(io.BytesIO(data)).header == header
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack_video_header(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(FormatError):
            VideoReader(io.BytesIO(data[:length]))


@pytest.mark.parametrize(
    "change",
    [{"width": 0}, {"height": 65537}, {"quality": 64}, {"fingerprint": 65536}, {"fps": (0, 1)}, {"fps": (1, 0)},
     {"intra_period": 0}, {"reset_interval": 0}, {"pattern": ()}, {"pattern": (0,) * 65}, {"pattern": (256,)},
     {"matrix": "bt2020"}],
)  # fmt: skip
def test_header_fields_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"of a \.glcv clip must"):
        pack_video_header(replace(HEADER, **change))


@pytest.mark.parametrize(
    ("at", "value"), [(5, 0xAF), (6, 0x29), (6, 0x0A), (6, 0x01), (7, 0), (8, 0), (10, 0), (10, 0x80), (1, 12)]
)
def test_headers_of_a_later_version_are_refused(at: int, value: int) -> None:
    """Padding that is not zero, flags and matrices unknown here, a pattern of too few numbers, zeros, wrong lengths."""
    data = bytearray(pack_video_header(HEADER)[:-2])
    data[at] = value
    if at == 1:
        del data[-1]
    forged = bytes(data) + crc16(bytes(data)).to_bytes(2, "big")
    with pytest.raises(FormatError, match="does not understand"):
        unpack_video_header(forged)


@given(st.integers(0, 2**35 - 1), st.binary(max_size=3))
def test_numbers_come_back(value: int, rest: bytes) -> None:
    data = pack_number(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert unpack_number(data + rest, 0) == (value, len(data))
    with pytest.raises(FormatError):
        unpack_number(data[:-1], 0)


def test_a_seed_of_the_check_is_told_from_every_other() -> None:
    assert len({crc8(b"abc", seed) for seed in range(256)}) == 256


@given(st.data())
def test_clips_come_back(data: st.DataObject) -> None:
    period = data.draw(st.none() | st.integers(1, 5))
    header = replace(SHORT, intra_period=period)
    lengths = st.integers(1, 40) | st.sampled_from([0, 191, 192, 12479, 12480])
    payloads: Payloads = []
    for frame in range(data.draw(st.integers(0, 12))):
        if not header.is_intra(frame) and data.draw(st.booleans()):
            payloads.append(REPEATED)
        else:
            length = data.draw(lengths)
            payloads.append(bytes([data.draw(st.integers(1, 255))]) * length or b"\0")
    played = play(io.BytesIO(file_of(header, payloads)))
    assert played.frames == expected(payloads)
    assert played.damages == []


def test_the_implied_payload_is_what_likely_symbols_leave() -> None:
    tables = GaussianTables()
    for count in (0, 1, 1000, 200_000):
        writer = SymbolWriter()
        writer.write_categorical(np.zeros(16, np.int32), CategoricalTable.uniform(1))
        writer.write_gaussian(np.zeros(count, np.int32), np.zeros(count, np.int32), tables)
        assert writer.finish(IMPLIED) == IMPLIED
        symbols = SymbolReader(IMPLIED).read_gaussian(np.zeros(count, np.int32), tables)
        assert not symbols.any()
    writer = SymbolWriter()
    writer.write_gaussian([1, -1, 0], [0, 0, 0], tables)
    payload = writer.finish(IMPLIED)
    assert payload != IMPLIED
    assert SymbolReader(payload).read_gaussian([0, 0, 0], tables).tolist() == [1, -1, 0]


@given(st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 2**34)), max_size=20), st.integers(0, 2**32 - 1))
def test_end_records_come_back(steps: list[tuple[int, int]], frames: int) -> None:
    index = [tuple(map(int, entry)) for entry in np.cumsum(np.array(steps, dtype=np.int64).reshape(-1, 2), axis=0)]
    record = pack_end(frames, 0xABCD, index)  # type: ignore[arg-type]
    end = unpack_end(record + b"more")
    assert end is not None
    assert (end.frames, end.content, list(end.index), end.size) == (frames, 0xABCD, index, len(record))
    for bit in range(0, 8 * len(record), 7):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        assert unpack_end(bytes(damaged)) is None
