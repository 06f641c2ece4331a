"""The .glc file of one picture: a 10-byte header (at 768x512) and the payload of the entropy coder.

    bytes  content
    1      format byte: bits 7-5 the magic 101, bits 4-2 the version, bits 1-0 the kind (0 picture, 1 video)
    2..6   bit-packed, most significant bit first, zero bits to the next whole byte:
           4 bits length code of width - 1, 4 bits that of height - 1, low bits of width - 1, of height - 1,
           6 bits quality
    2      fingerprint of the network weights, big-endian
    2      content check: 16 bits over what encoder and decoder must agree on, big-endian
    1      CRC-8 over all other bytes of the file
    rest   payload; may end in zero bytes that mean nothing

A number v of 16 bits has the length code c = max(bit length of v, 1) - 1. Its low bits are the c bits below the leading
one, or, for c = 0, the one bit v itself. The magic makes the first byte 0xA0..0xBF, with which no text in UTF-8 and
none of the usual picture formats begins.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from glc_train.bitstream.errors import FormatError, WeightsMismatchError

VERSION = 1
KIND_IMAGE = 0
KIND_VIDEO = 1
MAX_SIDE = 65536
MAX_QUALITY = 63
MAX_PIXELS_PER_BYTE = 4096
"""A picture has at most this many pixels per payload byte, so that a small file cannot demand a huge allocation."""

FREE_PIXELS = 65536
"""Pictures up to this size are exempt from `MAX_PIXELS_PER_BYTE`."""

_MAGIC = 0b101
_CHECK_BYTES = 5
_CRC8_POLYNOMIAL = 0x2F


@dataclass(frozen=True)
class ImageHeader:
    """What a decoder must know of a picture before its payload.

    width, height: pixels, 1..65536. quality: level 0..63. fingerprint: 16 bits of the network weights.
    content_check: 16 bits, see `ContentCheck`. version: of the container format.
    """

    width: int
    height: int
    quality: int
    fingerprint: int
    content_check: int
    version: int = VERSION


class ContentCheck:
    """CRC over integer arrays: equal on every platform if, and with probability 1 - 2^-16 only if, all values agree."""

    def __init__(self) -> None:
        """Start over no data."""
        self._crc = 0

    def update(self, values: ArrayLike) -> None:
        """Add integers of any shape (C order) and type; only the values count. ValueError for other types."""
        array = np.asarray(values)
        if array.dtype.kind not in "iu" or array.dtype == np.uint64:
            raise ValueError(f"The content check takes integers of at most 64 bits with sign, not {array.dtype}.")
        self._crc = zlib.crc32(np.ascontiguousarray(array, dtype="<i8").tobytes(), self._crc)

    def digest(self) -> int:
        """Return the low 16 bits of the CRC-32 of everything added so far, 0..65535."""
        return self._crc & 0xFFFF


def pack_image(header: ImageHeader, payload: bytes) -> bytes:
    """Return the file of a picture. Raises ValueError for header fields out of range.

    A payload shorter than one byte per `MAX_PIXELS_PER_BYTE` pixels is extended with zero bytes, which the reader of
    symbols ignores.
    """
    for name, value, low, high in (
        ("width", header.width, 1, MAX_SIDE),
        ("height", header.height, 1, MAX_SIDE),
        ("quality", header.quality, 0, MAX_QUALITY),
        ("fingerprint", header.fingerprint, 0, 0xFFFF),
        ("content check", header.content_check, 0, 0xFFFF),
        ("version", header.version, VERSION, VERSION),
    ):
        if not low <= value <= high:
            raise ValueError(f"The {name} of a .glc picture must lie in {low}..{high}, but is {value}.")
    start = bytes([_MAGIC << 5 | header.version << 2 | KIND_IMAGE]) + _pack_geometry(header)
    start += header.fingerprint.to_bytes(2, "big") + header.content_check.to_bytes(2, "big")
    payload += bytes(max(0, _least_payload(header) - len(payload)))
    return start + bytes([_crc8(start + payload)]) + payload


def unpack_image(data: bytes, name: str = "The data") -> tuple[ImageHeader, bytes]:
    """Split a file into header and payload, allocating nothing that depends on the picture's size.

    `name` (the file's path, say) begins the message of a FormatError, raised for data that is empty, foreign, of
    another version or kind, truncated, damaged, or implausibly small for its picture.
    """
    _check_format_byte(data, name)
    header_end = _header_length(data[1]) if len(data) > 1 else 2
    if len(data) < header_end:
        raise FormatError(f"{name} is truncated inside its header: copy or encode the file again.")
    width, height, quality, spare = _unpack_geometry(data[1 : header_end - _CHECK_BYTES])
    if _crc8(data[: header_end - 1] + data[header_end:]) != data[header_end - 1] or spare:
        raise FormatError(f"{name} is damaged or truncated, its checksum does not match: copy or encode it again.")
    fingerprint, content_check = (int.from_bytes(data[header_end - at : header_end - at + 2], "big") for at in (5, 3))
    header = ImageHeader(width, height, quality, fingerprint, content_check, VERSION)
    payload = data[header_end:]
    if len(payload) < _least_payload(header):
        raise FormatError(
            f"{name} announces {width}x{height} pixels in only {len(payload)} bytes of payload: no encoder writes that."
        )
    return header, payload


def check_fingerprint(header: ImageHeader, expected: int, name: str = "The file") -> None:
    """Raise WeightsMismatchError unless the file was written with weights of the fingerprint `expected` (16 bits)."""
    if header.fingerprint != expected:
        raise WeightsMismatchError(
            f"{name} was written with weights of fingerprint {header.fingerprint:04x}, but the loaded weights have "
            f"{expected:04x}: load the weights it was written with."
        )


def check_content(header: ImageHeader, actual: int, name: str = "The file") -> None:
    """Raise FormatError unless the decoder arrived at the encoder's content check (`ContentCheck.digest()`)."""
    if header.content_check != actual:
        raise FormatError(
            f"{name} did not decode to what was encoded (content check {actual:04x} instead of "
            f"{header.content_check:04x}): it is damaged, or the networks computed differently than in the encoder."
        )


def _check_format_byte(data: bytes, name: str) -> None:
    if not data:
        raise FormatError(f"{name} is empty: copy or encode the file again.")
    if data[0] >> 5 != _MAGIC:
        raise FormatError(f"{name} is not a .glc file: its first byte is {data[0]:#04x}.")
    version, kind = data[0] >> 2 & 7, data[0] & 3
    if version != VERSION:
        raise FormatError(
            f"{name} has .glc version {version}, but only version {VERSION} can be read: update glc_train."
        )
    if kind == KIND_VIDEO:
        raise FormatError(f"{name} is a .glc video where a picture is expected: decode it as a video.")
    if kind != KIND_IMAGE:
        raise FormatError(f"{name} is a .glc file of the unknown kind {kind}: update glc_train.")


def _least_payload(header: ImageHeader) -> int:
    pixels = header.width * header.height
    return 0 if pixels <= FREE_PIXELS else -(-pixels // MAX_PIXELS_PER_BYTE)


def _header_length(lengths: int) -> int:
    """Length of the whole header in bytes, from its second byte (the two length codes)."""
    bits = 8 + max(lengths >> 4, 1) + max(lengths & 15, 1) + 6
    return 1 + (bits + 7) // 8 + _CHECK_BYTES


def _pack_geometry(header: ImageHeader) -> bytes:
    sides = (header.width - 1, header.height - 1)
    codes = [max(side.bit_length(), 1) - 1 for side in sides]
    packed, used = codes[0] << 4 | codes[1], 8
    for side, code in zip(sides, codes, strict=True):
        bits = max(code, 1)
        packed, used = packed << bits | side & ((1 << bits) - 1), used + bits
    packed, used = packed << 6 | header.quality, used + 6
    return (packed << (-used % 8)).to_bytes((used + 7) // 8, "big")


def _unpack_geometry(packed: bytes) -> tuple[int, int, int, int]:
    """Width, height, quality, and the padding bits, which a writer leaves zero."""
    number, left = int.from_bytes(packed, "big"), len(packed) * 8 - 8
    sides = []
    for code in (packed[0] >> 4, packed[0] & 15):
        bits = max(code, 1)
        left -= bits
        low = number >> left & ((1 << bits) - 1)
        sides.append(1 + (low | (1 << code if code else 0)))
    left -= 6
    return sides[0], sides[1], number >> left & 63, number & ((1 << left) - 1)


def _crc8_table() -> bytes:
    table = bytearray()
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (_CRC8_POLYNOMIAL if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return bytes(table)


_CRC8_TABLE = _crc8_table()


def _crc8(data: bytes) -> int:
    """CRC-8 AUTOSAR (polynomial 0x2F, start and final XOR 0xFF): finds every flipped bit, at any length."""
    crc = 0xFF
    table = _CRC8_TABLE
    for byte in data:
        crc = table[crc ^ byte]
    return crc ^ 0xFF
