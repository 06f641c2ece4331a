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
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from glc_train.bitstream.errors import FormatError, WeightsMismatchError
from glc_train.bitstream.fields import (
    KIND_IMAGE,
    MAX_QUALITY,
    MAX_SIDE,
    VERSION,
    check_format_byte,
    check_ranges,
    crc8,
    format_byte,
    geometry_length,
    least_payload,
    pack_geometry,
    unpack_geometry,
)

_CHECK_BYTES = 5


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


class _Fingerprinted(Protocol):
    @property
    def fingerprint(self) -> int: ...


class ContentCheck:
    """CRC over integer arrays: equal on every platform if, and with probability 1 - 2^-16 only if, all values agree."""

    def __init__(self, *values: int) -> None:
        """Start over `values`: of a picture its width, height and quality, so that a header that lies is found out."""
        self._crc = 0
        self.update(np.array(values, dtype=np.int64))

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
    check_ranges(
        ".glc picture",
        ("width", header.width, 1, MAX_SIDE),
        ("height", header.height, 1, MAX_SIDE),
        ("quality", header.quality, 0, MAX_QUALITY),
        ("fingerprint", header.fingerprint, 0, 0xFFFF),
        ("content check", header.content_check, 0, 0xFFFF),
        ("version", header.version, 3, VERSION),
    )
    start = format_byte(KIND_IMAGE, header.version) + pack_geometry(header.width, header.height, header.quality)
    start += header.fingerprint.to_bytes(2, "big") + header.content_check.to_bytes(2, "big")
    payload += bytes(max(0, _least_payload(header) - len(payload)))
    return start + bytes([crc8(start + payload)]) + payload


def unpack_image(data: bytes, name: str = "The data") -> tuple[ImageHeader, bytes]:
    """Split a file into header and payload, allocating nothing that depends on the picture's size.

    `name` (the file's path, say) begins the message of a FormatError, raised for data that is empty, foreign, of
    another version or kind, truncated, damaged, or implausibly small for its picture.
    """
    version = check_format_byte(data, KIND_IMAGE, name)
    header_end = 1 + geometry_length(data[1]) + _CHECK_BYTES if len(data) > 1 else 2
    if len(data) < header_end:
        raise FormatError(f"{name} is truncated inside its header: copy or encode the file again.")
    width, height, quality, spare = unpack_geometry(data[1 : header_end - _CHECK_BYTES])
    if crc8(data[: header_end - 1] + data[header_end:]) != data[header_end - 1] or spare:
        raise FormatError(f"{name} is damaged or truncated, its checksum does not match: copy or encode it again.")
    fingerprint, content_check = (int.from_bytes(data[header_end - at : header_end - at + 2], "big") for at in (5, 3))
    header = ImageHeader(width, height, quality, fingerprint, content_check, version)
    payload = data[header_end:]
    if len(payload) < _least_payload(header):
        raise FormatError(
            f"{name} announces {width}x{height} pixels in only {len(payload)} bytes of payload: no encoder writes that."
        )
    return header, payload


def check_fingerprint(header: _Fingerprinted, expected: int, name: str = "The file") -> None:
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


def _least_payload(header: ImageHeader) -> int:
    return least_payload(header.width, header.height)
