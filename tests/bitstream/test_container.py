"""The .glc container: layout, checks, and what it does with broken files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_train.bitstream import (
    MAX_PIXELS_PER_BYTE,
    CategoricalTable,
    ContentCheck,
    FormatError,
    GaussianTables,
    ImageHeader,
    SymbolReader,
    SymbolWriter,
    WeightsMismatchError,
    check_content,
    check_fingerprint,
    pack_image,
    unpack_image,
)

EXPECTED = json.loads((Path(__file__).parents[1] / "expected" / "bitstream_container.json").read_text())
KODAK = ImageHeader(width=768, height=512, quality=3, fingerprint=0xBEEF, content_check=0x1234)
SMALL = ImageHeader(width=100, height=80, quality=1, fingerprint=0xBEEF, content_check=0)
TABLES = GaussianTables()
side = st.one_of(st.integers(1, 5), st.integers(1, 65536), st.sampled_from([65535, 65536, 256, 257]))


def small_file() -> tuple[bytes, list[int], np.ndarray]:
    """A real little file with its z and y symbols."""
    rng = np.random.default_rng(5)
    z, index = rng.integers(0, 500, 12).tolist(), np.arange(0, 240, 4)
    y = np.rint(rng.normal(0, np.array(TABLES.scales)[index])).astype(np.int32)
    y[3] = 9000  # an escape
    writer = SymbolWriter()
    writer.write_categorical(z, CategoricalTable.uniform(500))
    writer.write_gaussian(y, index, TABLES)
    return pack_image(replace(SMALL, content_check=content(z, y)), writer.finish()), z, y


def content(z: list[int], y: np.ndarray) -> int:
    check = ContentCheck()
    check.update(z)
    check.update(y)
    return check.digest()


def decode(data: bytes) -> tuple[list[int], list[int]]:
    header, payload = unpack_image(data)
    check_fingerprint(header, 0xBEEF)
    reader = SymbolReader(payload)
    z = reader.read_categorical(12, CategoricalTable.uniform(500)).tolist()
    y = reader.read_gaussian(np.arange(0, 240, 4), TABLES)
    check_content(header, content(z, y))
    return z, y.tolist()


def test_golden_files() -> None:
    for case in EXPECTED["files"]:
        header, payload = ImageHeader(**case["header"]), bytes.fromhex(case["payload"])
        assert pack_image(header, payload).hex() == case["hex"]
        assert unpack_image(bytes.fromhex(case["hex"])) == (header, payload)


def test_overhead_of_a_kodak_picture_is_ten_bytes() -> None:
    assert len(pack_image(KODAK, b"\x01" * 1200)) == 1210
    assert len(pack_image(replace(KODAK, width=512, height=768), b"\x01" * 1200)) == 1210


@settings(max_examples=300, deadline=None)
@given(side, side, st.integers(0, 63), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=60))
def test_round_trip(width: int, height: int, quality: int, fingerprint: int, check: int, payload: bytes) -> None:
    header = ImageHeader(width, height, quality, fingerprint, check)
    unpacked, content = unpack_image(pack_image(header, payload))
    assert unpacked == header
    assert content[: len(payload)] == payload
    assert not content[len(payload) :].strip(b"\0")
    assert len(content) == max(len(payload), 0 if width * height <= 65536 else -(-width * height // 4096))


@pytest.mark.parametrize(
    "change",
    [{"width": 0}, {"width": 65537}, {"height": -1}, {"quality": 64}, {"fingerprint": 65536}, {"content_check": -1},
     {"version": 2}, {"version": 5}],
)  # fmt: skip
def test_header_fields_out_of_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        pack_image(replace(SMALL, **change), b"")


def test_every_truncation_is_found() -> None:
    data, z, y = small_file()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            decode(data[:length])
    assert decode(data) == (z, y.tolist())


def test_every_flipped_bit_is_found_by_the_container_alone() -> None:
    data, _, _ = small_file()
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack_image(bytes(damaged))


def test_random_bytes_give_format_errors_only() -> None:
    rng = np.random.default_rng(6)
    passed = 0
    for trial in range(10_000):
        data = bytearray(rng.bytes(int(rng.integers(0, 60))))
        if trial % 2 and data:
            data[0] = 0b10110000  # past the format byte
        try:
            decode(bytes(data))
            passed += 1
        except FormatError:
            pass
    assert passed == 0


@given(st.binary(max_size=40), st.sampled_from([0, 1, 9]))
def test_any_bytes_are_a_picture_or_a_format_error(data: bytes, kept: int) -> None:
    """Behind nothing, the format byte or the header of a good file."""
    data = small_file()[0][:kept] + data
    try:
        header, payload = unpack_image(data)
    except FormatError:
        return
    assert len(payload) < len(data)
    assert header.width * header.height <= 65536 + 4096 * len(payload)


def test_messages_name_the_file_and_the_fault() -> None:
    data, _, _ = small_file()
    for broken, message in (
        (b"", "a.glc is empty"),
        (b"\x89PNG\r\n", "a.glc is not a .glc file"),
        (
            bytes([0b10111100]) + data[1:],
            "a.glc has format version 7, but only 3 and 4 can be read: update glc_train",
        ),
        (bytes([0b10101000]) + data[1:], "a.glc has format version 2, but only 3 and 4 can be read: encode"),
        (bytes([0b10101101]) + data[1:], "a.glc is a .glc video where a picture is expected"),
        (bytes([0b10101111]) + data[1:], "unknown kind 3"),
        (data[:1], "a.glc is truncated inside its header"),
        (data[:8], "a.glc is truncated inside its header"),
        (data + b"\x01", "a.glc is damaged or truncated"),
    ):
        with pytest.raises(FormatError, match=message):
            unpack_image(broken, name="a.glc")


def test_fingerprint_mismatch_names_both() -> None:
    check_fingerprint(KODAK, 0xBEEF)
    with pytest.raises(WeightsMismatchError, match=r"a.glc .* beef, .* 00ff"):
        check_fingerprint(KODAK, 0xFF, name="a.glc")


def test_content_mismatch() -> None:
    check_content(KODAK, 0x1234)
    with pytest.raises(FormatError, match=r"a.glc .* ffff instead of 1234"):
        check_content(KODAK, 0xFFFF, name="a.glc")


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a valid checksum that announces 2^32 pixels in a few bytes, as a malicious writer would make it."""
    with monkeypatch.context() as patch:
        patch.setattr("glc_train.bitstream.container._least_payload", lambda header: 0)
        bomb = pack_image(replace(SMALL, width=65536, height=65536), b"\x01")
    with pytest.raises(FormatError, match="announces 65536x65536 pixels in only 1 bytes"):
        unpack_image(bomb)


def test_an_empty_picture_is_padded_to_be_plausible() -> None:
    header = replace(SMALL, width=4096, height=2048)
    assert unpack_image(pack_image(header, b"\x07"))[1] == b"\x07" + bytes(4096 * 2048 // MAX_PIXELS_PER_BYTE - 1)
    assert unpack_image(pack_image(replace(SMALL, width=256, height=256), b""))[1] == b""


def test_content_check_depends_on_values_only() -> None:
    reference = ContentCheck()
    reference.update(np.array([[1, -2], [3, 4]], dtype=np.int64))
    assert reference.digest() == EXPECTED["content_check"]
    for dtype in ("int8", "<i2", ">i4", ">i8"):
        other = ContentCheck()
        other.update(np.array([1, -2], dtype=dtype))
        other.update(np.array([3, 4, 9, 9], dtype=dtype)[:2])
        assert other.digest() == EXPECTED["content_check"]
    begun = ContentCheck(1, -2)
    begun.update([3, 4])
    assert begun.digest() == EXPECTED["content_check"]
    changed = ContentCheck()
    changed.update([1, -2, 4, 3])
    assert changed.digest() != EXPECTED["content_check"]
    with pytest.raises(ValueError, match="takes integers"):
        changed.update([0.5])
