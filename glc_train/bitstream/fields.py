"""Fields that the containers of pictures and clips share: first byte, sizes, numbers, checksums, plausibility."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Protocol

from glc_train.bitstream.errors import FormatError

VERSION = 4
"""Of pictures that are written. Those of version 3 are read as well: their z is not adaptive."""
CLIP_VERSION = 3
KIND_IMAGE = 0
KIND_VIDEO = 1
MAX_SIDE = 65536
MAX_QUALITY = 63
MAX_PIXELS_PER_BYTE = 4096
"""A picture has at most this many pixels per payload byte, so that a small file cannot demand a huge allocation."""

FREE_PIXELS = 65536
"""Pictures up to this size are exempt from `MAX_PIXELS_PER_BYTE`."""

MAX_PIXELS = 89_478_485
"""Pixels of a picture or frame that is decoded unless the caller allows more: Pillow's limit for pictures to encode."""

MAX_NUMBER_BYTES = 5
_MAGIC = 0b101
_CRC8_POLYNOMIAL = 0x2F
_KINDS = {KIND_IMAGE: "picture", KIND_VIDEO: "video"}
_READ = {KIND_IMAGE: (3, VERSION), KIND_VIDEO: (CLIP_VERSION,)}


class Sized(Protocol):
    """A header that says a size in pixels."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def height(self) -> int:
        """Rows."""


def format_byte(kind: int, version: int) -> bytes:
    """First byte of a file: the magic 101, the version, the kind."""
    return bytes([_MAGIC << 5 | version << 2 | kind])


def kind_of(data: bytes) -> int | None:
    """`KIND_IMAGE`, `KIND_VIDEO` or another kind that the first byte of `data` tells; None for foreign data."""
    return data[0] & 3 if data and data[0] >> 5 == _MAGIC else None


def check_format_byte(data: bytes, kind: int, name: str) -> int:
    """The version. Raise FormatError, its message beginning with `name`, unless `data` begins as a file of `kind`."""
    if not data:
        raise FormatError(f"{name} is empty: copy or encode the file again.")
    found = kind_of(data)
    if found is None:
        raise FormatError(f"{name} is not a .glc file: its first byte is {data[0]:#04x}.")
    version = data[0] >> 2 & 7
    if found not in _KINDS:
        raise FormatError(f"{name} is a .glc file of the unknown kind {found}: update glc_train.")
    if version not in _READ[found]:
        remedy = (
            "update glc_train"
            if version > _READ[found][-1]
            else "encode it again, or decode it with an older glc_train"
        )
        read = " and ".join(map(str, _READ[found]))
        raise FormatError(f"{name} has format version {version}, but only {read} can be read: {remedy}.")
    if found != kind:
        wanted, there = _KINDS[kind], _KINDS[found]
        raise FormatError(f"{name} is a .glc {there} where a {wanted} is expected: decode it as a {there}.")
    return version


def check_ranges(what: str, *fields: tuple[str, int, int, int]) -> None:
    """Raise ValueError unless low <= value <= high in every field (name, value, low, high)."""
    for name, value, low, high in fields:
        if not low <= value <= high:
            raise ValueError(f"The {name} of a {what} must lie in {low}..{high}, but is {value}.")


def least_payload(width: int, height: int) -> int:
    """Bytes that the payload of a picture has at least; see `MAX_PIXELS_PER_BYTE`."""
    pixels = width * height
    return 0 if pixels <= FREE_PIXELS else -(-pixels // MAX_PIXELS_PER_BYTE)


def check_pixels(size: Sized, most: int | None, name: str) -> None:
    """Raise FormatError, its message beginning with `name`, for more than `most` pixels; None: any number will do."""
    pixels = size.width * size.height
    if most is not None and pixels > most:
        raise FormatError(
            f"{name} has {size.width}x{size.height} pixels, above the limit of {most:,}: if you trust it and "
            f"have the memory, set the limit (--max-pixels, or max_pixels in Python) to {pixels}."
        )


def geometry_length(lengths: int) -> int:
    """Length in bytes of a packed size and quality, from its first byte (the two length codes)."""
    bits = 8 + max(lengths >> 4, 1) + max(lengths & 15, 1) + 6
    return (bits + 7) // 8


def pack_geometry(width: int, height: int, quality: int) -> bytes:
    """Width and height (1..65536) and quality (0..63) in 2 to 6 bytes."""
    sides = (width - 1, height - 1)
    codes = [max(side.bit_length(), 1) - 1 for side in sides]
    packed, used = codes[0] << 4 | codes[1], 8
    for side, code in zip(sides, codes, strict=True):
        bits = max(code, 1)
        packed, used = packed << bits | side & ((1 << bits) - 1), used + bits
    packed, used = packed << 6 | quality, used + 6
    return (packed << (-used % 8)).to_bytes((used + 7) // 8, "big")


def unpack_geometry(packed: bytes) -> tuple[int, int, int, int]:
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


def pack_number(value: int) -> bytes:
    """A number 0..2^35-1 in groups of 7 bits, lowest first; the top bit of a byte says that another follows."""
    if not 0 <= value < 1 << 7 * MAX_NUMBER_BYTES:
        raise ValueError(f"A number of the container must lie in 0..2^{7 * MAX_NUMBER_BYTES} - 1, but is {value}.")
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def unpack_number(data: bytes, at: int) -> tuple[int, int]:
    """The number at `data[at:]`, and where it ends. Raises FormatError if it is cut off or too long."""
    value = 0
    for place, byte in enumerate(data[at : at + MAX_NUMBER_BYTES]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise FormatError("A number is damaged or cut off.")


def crc16(data: bytes) -> int:
    """CRC-16 (polynomial 0x1021, start 0xFFFF): finds every error within 16 adjacent bits."""
    return crc_hqx(data, 0xFFFF)


def crc8(data: bytes, seed: int = 0) -> int:
    """CRC-8 AUTOSAR (polynomial 0x2F, start and final XOR 0xFF): finds every flipped bit, at any length.

    `seed` (0..255) is a byte that stands before the data, in effect: another seed gives another checksum.
    """
    crc = 0xFF ^ seed
    table = _CRC8_TABLE
    for byte in data:
        crc = table[crc ^ byte]
    return crc ^ 0xFF


def _crc8_table() -> bytes:
    table = bytearray()
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (_CRC8_POLYNOMIAL if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return bytes(table)


_CRC8_TABLE = _crc8_table()
