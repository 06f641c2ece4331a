"""docs/format.md, followed to the letter with plain integers, reads what the package writes."""

import io
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_train.bitstream import (
    CategoricalTable,
    GaussianTables,
    ImageHeader,
    SymbolWriter,
    VideoHeader,
    VideoWriter,
    pack_image,
    write_map,
)

TABLES = GaussianTables()
MASK = 2**64 - 1
BIT = (2**23, 2**23)


class DocumentedDecoder:
    """The range coder of the document."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.at = payload, 0
        self.lower, self.range = 0, MASK
        self.value = self.word() << 32 | self.word()

    def word(self) -> int:
        taken = self.payload[self.at : self.at + 4]
        self.at += 4
        return int.from_bytes(taken + bytes(4 - len(taken)), "big")

    def symbol(self, frequencies: Sequence[int]) -> int:
        scale = self.range >> 24
        q = ((self.value - self.lower) & MASK) // scale
        symbol = cumulative = 0
        while q >= cumulative + frequencies[symbol]:
            cumulative += frequencies[symbol]
            symbol += 1
        self.lower = (self.lower + scale * cumulative) & MASK
        self.range = scale * frequencies[symbol]
        if self.range < 2**32:
            self.lower = self.lower << 32 & MASK
            self.range <<= 32
            self.value = (self.value << 32 | self.word()) & MASK
        return symbol

    def gaussian_pass(self, index: Sequence[int]) -> list[int]:
        found: dict[int, int] = {}
        escaped: list[tuple[int, int]] = []
        for at in sorted(range(len(index)), key=lambda i: index[i]):
            frequencies = TABLES.frequencies(index[at]).tolist()
            support = len(frequencies) // 2 - 1
            position = self.symbol(frequencies)
            if position == 2 * support + 1:
                escaped.append((at, support))
            else:
                found[at] = position - support
        lengths = [0] * len(escaped)
        running = list(range(len(escaped)))
        for _ in range(31):
            running = [each for each in running if self.symbol(BIT)]
            for each in running:
                lengths[each] += 1
        numbers = [1 << length for length in lengths]
        for plane in range(30, -1, -1):
            for each, length in enumerate(lengths):
                if length > plane:
                    numbers[each] |= self.symbol(BIT) << plane
        for (at, support), number in zip(escaped, numbers, strict=True):
            found[at] = (number + support) * (-1 if self.symbol(BIT) else 1)
        return [found[at] for at in range(len(index))]


@given(
    st.lists(st.integers(0, 6), max_size=12),
    st.lists(st.tuples(st.integers(0, 255), st.integers(-9, 9) | st.integers(-(2**31), 2**31 - 1)), max_size=40),
    st.lists(st.tuples(st.integers(0, 255), st.integers(-300, 300)), max_size=40),
)
def test_the_documented_decoder_reads_the_stream(
    codes: list[int], first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    prior = CategoricalTable.from_counts([5, 0, 1, 1, 900, 3, 77])
    writer = SymbolWriter()
    writer.write_categorical(codes, prior)
    for part in (first, second):
        writer.write_gaussian([symbol for _, symbol in part], [index for index, _ in part], TABLES)
    payload = writer.finish()
    decoder = DocumentedDecoder(payload)
    frequencies = prior.frequencies.tolist()
    assert [decoder.symbol(frequencies) for _ in codes] == codes
    for part in (first, second):
        assert decoder.gaussian_pass([index for index, _ in part]) == [symbol for _, symbol in part]
    shifts = decoder.at // 4 - 2
    assert len(payload) >= 4 * shifts - 8


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 7))
def test_the_documented_tables_of_z_read_a_map(codes: list[int], width: int) -> None:
    codes = codes[: len(codes) // width * width]
    prior, writer = CategoricalTable.from_counts([5, 0, 1, 1, 900, 3, 77]), SymbolWriter()
    write_map(codes, width, prior, writer)
    decoder = DocumentedDecoder(writer.finish())
    found: list[int] = []
    weights = [24 * (1 + f // 256) for f in prior.frequencies.tolist()]
    for at in range(len(codes)):
        here = list(weights)
        for neighbour in ([found[-1]] if at % width else []) + ([found[-width]] if at >= width else []):
            here[neighbour] += 8 * 65536
        frequencies = [1 + (2**24 - len(here)) * weight // sum(here) for weight in here]
        frequencies[0] += 2**24 - sum(frequencies)
        found.append(decoder.symbol(frequencies))
        weights[found[-1]] += 65536
    assert found == codes


def crc8(data: bytes) -> int:
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x2F if crc & 0x80 else 0)) & 0xFF
    return crc ^ 0xFF


@given(st.integers(1, 65536), st.integers(1, 65536), st.integers(0, 63), st.integers(0, 65535), st.binary(max_size=9))
def test_the_header_has_the_documented_bits(width: int, height: int, quality: int, number: int, payload: bytes) -> None:
    data = pack_image(ImageHeader(width, height, quality, number, number ^ 0xABC), payload)
    codes = [max((side - 1).bit_length(), 1) - 1 for side in (width, height)]
    bits = "".join(f"{code:04b}" for code in codes)
    for side, code in zip((width, height), codes, strict=True):
        bits += f"{side - 1:b}"[1:] if code else f"{side - 1:b}"
    bits += f"{quality:06b}"
    bits += "0" * (-len(bits) % 8)
    start = b"\xb0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    start += number.to_bytes(2, "big") + (number ^ 0xABC).to_bytes(2, "big")
    pixels = width * height
    payload = payload.ljust(-(-pixels // 4096) if pixels > 65536 else 0, b"\0")
    assert data == start + bytes([crc8(start + payload)]) + payload
    assert 8 <= len(start) + 1 <= 12


def test_the_documented_thresholds_choose_the_table() -> None:
    scales = [0.05 * 1280 ** (i / 255) for i in range(256)]
    thresholds = [int(np.ceil(4096 * np.sqrt(a * b))) for a, b in pairwise(scales)]
    for v in [-5, 0, 204, 205, 4096, 4097, 2**18, *thresholds, *(t - 1 for t in thresholds)]:
        assert TABLES.index(np.int64(v)) == sum(t <= v for t in thresholds)


def test_the_document_names_the_checksum_that_zlib_has() -> None:
    assert crc8(b"123456789") == 0xDF  # the check value of CRC-8/AUTOSAR
    assert zlib.crc32(b"123456789") == 0xCBF43926


# ------------------------------------------------------------------ clips


def crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def seeded_crc8(data: bytes, content: int) -> int:
    """CRC-8 with its start value XORed with a byte: as if two bytes before the data led from 0xFF there."""
    crc = 0xFF ^ content & 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x2F if crc & 0x80 else 0)) & 0xFF
    return crc ^ 0xFF


class DocumentedClip:
    """The records of the document, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        assert self.take(1) == b"\xad"
        self.header = self.take(self.integer(1))
        self.check16(0)

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count
        self.at += count
        return taken

    def integer(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def number(self) -> int:
        byte = self.integer(1)
        return byte if byte < 128 else byte - 128 + 128 * self.number()

    def check16(self, start: int) -> None:
        assert int.from_bytes(self.data[self.at - 2 : self.at], "big") == crc16(self.data[start : self.at - 2])

    def record(self, content: int) -> tuple[str, list[int], bytes]:
        """Kind, fields and payload of the next record; `content`: content check of the frames before."""
        start, first = self.at, self.integer(1)
        if first <= 0xF1:
            length = first if first < 0xC0 else 192 + 256 * (first - 192) + self.integer(1) if first < 0xF0 else 0
            length = self.integer(3) if first == 0xF0 else length
            length = 0 if first == 0xF1 else length
            head = self.data[start : self.at]
            check, payload = self.integer(1), self.take(length)
            assert check == seeded_crc8(head + payload, content)
            return ("repeat" if first == 0xF1 else "conditional"), [], payload
        assert self.integer(1) == 0x56
        if first == 0xFF:
            frame, length, before, crc = self.number(), self.number(), self.integer(2), self.integer(2)
            self.take(2)
            self.check16(start)
            payload = self.take(length)
            assert crc == crc16(payload)
            return "intra", [frame, before], payload
        assert first == 0xFE
        before, frames, entries = self.integer(2), self.number(), self.number()
        steps = [self.number() for _ in range(2 * entries)]
        assert self.integer(2) == self.at + 2 - start
        self.take(2)
        self.check16(start)
        return "end", [before, frames, *steps], b""


@settings(max_examples=20)
@given(st.lists(st.integers(-1, 300) | st.sampled_from([12479, 12480]), max_size=8), st.integers(0, 65535))
def test_the_documented_clip_is_what_is_written(lengths: list[int], content: int) -> None:
    header = VideoHeader(
        width=200, height=200, fps=(25, 1), quality=5, fingerprint=0x1234, intra_period=3, reset_interval=2,
        pattern=(0, 1),
    )  # fmt: skip
    out = io.BytesIO()
    writer, places = VideoWriter(out, header), []
    for frame, length in enumerate(lengths):
        payload = bytes([frame + 1]) * max(length, 1)
        places.append(writer.size)
        if frame % 3 == 0:
            writer.intra(payload, content)
        elif length < 0:
            writer.repeat(content)
        else:
            writer.conditional(payload if length else b"\x80", content)
    writer.close(content)
    clip = DocumentedClip(out.getvalue())
    # 200x200: length codes 7 and 7, twice the low bits 1000111 of 199, quality 5, two bits of padding.
    bits = "0111" + "0111" + "1000111" * 2 + "000101" + "00" * 2
    assert clip.header[: len(bits) // 8] == int(bits, 2).to_bytes(len(bits) // 8, "big")
    for frame, length in enumerate(lengths):
        assert clip.at == places[frame]
        kind, fields, payload = clip.record(content)
        expected = bytes([frame + 1]) * max(length, 1)
        if frame % 3 == 0:
            assert (kind, fields, payload) == ("intra", [frame, content], expected)
        elif length < 0:
            assert (kind, payload) == ("repeat", b"")
        else:
            assert (kind, payload) == ("conditional", expected if length else b"")
    intra = list(range(3, len(lengths), 3))
    steps = []
    for before, frame in zip([None, *intra], intra, strict=False):
        steps += [frame - (before or 0), places[frame] - (places[before] if before else 0)]
    assert clip.record(content) == ("end", [content, len(lengths), *steps], b"")
    assert clip.at == len(out.getvalue())
