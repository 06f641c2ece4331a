"""The .glcv file of one clip: a header, one record for each frame, and an end record with the index for seeking.

Header:

    bytes   content
    1       format byte, see `container`
    1       how many bytes of header follow
    2..6    size and quality, packed as those of a picture
    1       bits 7-5 zero, bit 4 intra frames at scene cuts, bit 3 the published pattern, bit 2 full range, bits 1-0 the
            matrix (0 BT.601, 1 BT.709)
    n       numbers: frames per second as numerator and denominator, intra period (0: none), reset interval, and unless
            the pattern is the published one its length and its adaptors
    2       fingerprint of the network weights, big-endian
    2       CRC-16 of all bytes before

Records, told apart by their first byte:

    0..F0   conditional frame. 00..BF: the payload's length. C0..EF and one byte: 192 + 256 * (first - C0) + byte.
            F0 and three bytes, big-endian: the length. Then one byte of check, and the payload; a payload of no bytes
            stands for the one byte 80.
    F1      the frame before is repeated. One byte of check.
    FF 56   intra frame: frame number, length of the payload (numbers), content check of the frames before (2 bytes),
            CRC-16 of the payload, CRC-16 of all bytes of the record so far; the payload.
    FE 56   end: content check of the frames before (2 bytes), number of frames, number of entries (numbers), for each
            entry the distance from the entry before in frames and in bytes (numbers), length of the record (2 bytes),
            CRC-16 of all bytes of the record so far.

The check of a conditional or repeated frame is a CRC-8 over its record, seeded with the low byte of the content check
of all frames before it since the last intra frame: one byte that finds damage of this record, and a decoder that has
left the encoder's path before. `docs/format.md` argues for these lengths.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import BinaryIO, Literal

from glc_train.bitstream.errors import FormatError
from glc_train.bitstream.fields import (
    CLIP_VERSION,
    KIND_VIDEO,
    MAX_NUMBER_BYTES,
    MAX_QUALITY,
    MAX_SIDE,
    check_format_byte,
    check_ranges,
    crc8,
    crc16,
    format_byte,
    geometry_length,
    least_payload,
    pack_geometry,
    pack_number,
    unpack_geometry,
    unpack_number,
)

Matrix = Literal["bt601", "bt709"]
MATRICES: tuple[Matrix, ...] = ("bt601", "bt709")
PUBLISHED_PATTERN = (0, 1, 0, 2, 0, 2, 0, 2)
MAX_PATTERN = 64
MAX_FRAMES = 2**32 - 1
MAX_PAYLOAD = 2**24 - 1
MAX_INDEX = 4096
"""Entries of the index; a longer clip has every second intra frame in it, every fourth, and so on."""

IMPLIED = b"\x80"
"""The payload of a conditional frame that is not written: the middle of the range coder's interval, which all that is
likely enough leaves in it. Give it to `SymbolWriter.finish`."""

INTRA = b"\xff\x56"
END = b"\xfe\x56"
REPEAT = 0xF1
INTRA_CHECKS = 6
"""Bytes of an intra record between its numbers and its payload."""
MIN_INTRA_HEAD = len(INTRA) + 2 + INTRA_CHECKS
MAX_INTRA_NUMBERS = len(INTRA) + 2 * MAX_NUMBER_BYTES
MAX_END = 2**16 - 1
_SHORT, _MEDIUM, _LONG = 0xC0, 0xC0 + (0x30 << 8), 0xF0


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """What a clip is before it is coded.

    width, height: pixels, 1..65536. fps: frames per second as numerator and denominator, 1..2^32-1 each. matrix,
    full_range: how the source's YUV relates to RGB, for whoever writes the decoded clip.
    """

    width: int
    height: int
    fps: tuple[int, int] = (25, 1)
    matrix: Matrix = "bt709"
    full_range: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoHeader(ClipFormat):
    """What a decoder must know of a clip before its frames.

    quality: level 0..63. fingerprint: 16 bits of the network weights. intra_period (None: only frame 0 is intra),
    reset_interval, pattern: the group of pictures; adaptors 0..255, at most 64 of them. scene_cuts: intra frames may
    come before the period is over, which counts from the last one.
    """

    quality: int
    fingerprint: int
    intra_period: int | None
    reset_interval: int
    pattern: tuple[int, ...]
    scene_cuts: bool = False

    def is_intra(self, frame: int, last: int = 0) -> bool:
        """Whether a frame must be an intra frame, `last` being the last one before it."""
        place = frame - last
        return place == 0 if self.intra_period is None else place % self.intra_period == 0


def pack_video_header(header: VideoHeader) -> bytes:
    """Return the header of a clip. Raises ValueError for fields out of range."""
    period, number = header.intra_period, MAX_FRAMES
    check_ranges(
        ".glcv clip",
        ("width", header.width, 1, MAX_SIDE),
        ("height", header.height, 1, MAX_SIDE),
        ("quality", header.quality, 0, MAX_QUALITY),
        ("fingerprint", header.fingerprint, 0, 0xFFFF),
        ("numerator of the frame rate", header.fps[0], 1, number),
        ("denominator of the frame rate", header.fps[1], 1, number),
        ("intra period", 1 if period is None else period, 1, number),
        ("reset interval", header.reset_interval, 1, number),
        ("length of the pattern", len(header.pattern), 1, MAX_PATTERN),
        *(("adaptor of the pattern", adaptor, 0, 255) for adaptor in header.pattern),
    )
    if header.matrix not in MATRICES:
        raise ValueError(f"The matrix of a .glcv clip must be {' or '.join(MATRICES)}, not {header.matrix}.")
    published = header.pattern == PUBLISHED_PATTERN
    flags = header.scene_cuts << 4 | published << 3 | header.full_range << 2 | MATRICES.index(header.matrix)
    numbers = [*header.fps, period or 0, header.reset_interval]
    numbers += [] if published else [len(header.pattern), *header.pattern]
    rest = pack_geometry(header.width, header.height, header.quality) + bytes([flags])
    rest += b"".join(map(pack_number, numbers)) + header.fingerprint.to_bytes(2, "big")
    start = format_byte(KIND_VIDEO, CLIP_VERSION) + bytes([len(rest) + 2]) + rest
    return start + crc16(start).to_bytes(2, "big")


def video_header_length(data: bytes, name: str = "The stream") -> int:
    """Bytes of the header that begins with `data`, of which two bytes are enough.

    Raises FormatError, whose message begins with `name`, for data that is empty, foreign, of another version or kind.
    """
    check_format_byte(data, KIND_VIDEO, name)
    return 2 + data[1] if len(data) > 1 else 2


def unpack_video_header(data: bytes, name: str = "The stream") -> VideoHeader:
    """The header that `data` is. Raises FormatError as `video_header_length`, and for one cut off or damaged."""
    if len(data) != video_header_length(data, name) or crc16(data[:-2]) != int.from_bytes(data[-2:], "big"):
        raise FormatError(f"{name} is damaged or truncated inside its header: copy or encode the file again.")
    foreign = FormatError(f"{name} has a header that this version does not understand: update glc_train.")
    try:
        at = 2 + geometry_length(data[2])
        width, height, quality, spare = unpack_geometry(data[2:at])
        flags = data[at]
        (num, den, period, reset), at = _numbers(data, at + 1, 4)
        pattern: tuple[int, ...] = PUBLISHED_PATTERN
        if not flags & 8:
            (length,), at = _numbers(data, at, 1)
            pattern, at = _numbers(data, at, min(length, MAX_PATTERN + 1))
    except (FormatError, IndexError):
        raise foreign from None
    if spare or flags >> 5 or flags & 3 >= len(MATRICES) or not (num and den and reset and pattern):
        raise foreign
    if len(data) != at + 4 or len(pattern) > MAX_PATTERN:
        raise foreign
    return VideoHeader(
        width=width, height=height, fps=(num, den), matrix=MATRICES[flags & 3], full_range=bool(flags & 4),
        quality=quality, fingerprint=int.from_bytes(data[at : at + 2], "big"), intra_period=period or None,
        reset_interval=reset, pattern=pattern, scene_cuts=bool(flags & 16),
    )  # fmt: skip


def _numbers(data: bytes, at: int, count: int) -> tuple[tuple[int, ...], int]:
    values = []
    for _ in range(count):
        value, at = unpack_number(data, at)
        values.append(value)
    return tuple(values), at


# ---------------------------------------------------------------------- records


def pack_conditional(payload: bytes, content: int) -> bytes:
    """Record of a conditional frame, `content` being the content check of the frames before."""
    payload = (
        b"" if payload == IMPLIED else payload or b"\0"
    )  # to the reader of symbols, no bytes are as good as a zero
    length = len(payload)
    if length < _SHORT:
        head = bytes([length])
    elif length < _MEDIUM:
        head = (length - _SHORT + (_SHORT << 8)).to_bytes(2, "big")
    elif length <= MAX_PAYLOAD:
        head = bytes([_LONG]) + length.to_bytes(3, "big")
    else:
        raise ValueError(f"A frame of a .glcv clip has at most {MAX_PAYLOAD} bytes, not {length}.")
    return head + bytes([crc8(head + payload, content & 0xFF)]) + payload


def head_bytes(first: int) -> int:
    """Bytes before the check of a conditional record, from its first byte; 1 for a byte that begins none."""
    return 1 if first < _SHORT or first > _LONG else 2 if first < _LONG else 4


def payload_length(head: bytes) -> int | None:
    """Length of the payload, from the bytes before the check of a conditional record; None if they begin none."""
    first = head[0] if head else REPEAT
    if first > _LONG or len(head) < head_bytes(first):
        return None
    if first < _SHORT:
        return first
    return _SHORT + ((first - _SHORT) << 8) + head[1] if first < _LONG else int.from_bytes(head[1:4], "big")


def pack_repeat(content: int) -> bytes:
    """Record of a frame that repeats the one before; `content` as in `pack_conditional`."""
    return bytes([REPEAT, crc8(bytes([REPEAT]), content & 0xFF)])


def pack_intra(frame: int, payload: bytes, content: int) -> bytes:
    """Record of the intra frame number `frame`; `content` as in `pack_conditional`, 0 before the first frame."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"A frame of a .glcv clip has at most {MAX_PAYLOAD} bytes, not {len(payload)}.")
    head = INTRA + pack_number(frame) + pack_number(len(payload))
    head += content.to_bytes(2, "big") + crc16(payload).to_bytes(2, "big")
    return head + crc16(head).to_bytes(2, "big") + payload


@dataclass(frozen=True)
class IntraHead:
    """Head of an intra record: frame number, payload's length and CRC-16, content check before, own length."""

    frame: int
    length: int
    content: int
    payload_crc: int
    size: int


def unpack_intra(data: bytes) -> IntraHead | None:
    """The head at the start of `data`; None for one that is damaged or cut off."""
    try:
        (frame, length), at = _numbers(data, len(INTRA), 2)
    except FormatError:
        return None
    content, payload_crc, crc = (int.from_bytes(data[at + 2 * i : at + 2 * i + 2], "big") for i in range(3))
    if len(data) < at + 6 or not data.startswith(INTRA) or crc != crc16(data[: at + 4]):
        return None
    return IntraHead(frame, length, content, payload_crc, at + 6)


@dataclass(frozen=True)
class EndRecord:
    """The end record: number of frames, content check of those before, index (frame, offset in the file), length."""

    frames: int
    content: int
    index: tuple[tuple[int, int], ...]
    size: int


def pack_end(frames: int, content: int, index: list[tuple[int, int]]) -> bytes:
    """End record; `index`: frame and offset in the file of intra frames, ascending, at most `MAX_INDEX`."""
    record = END + content.to_bytes(2, "big") + pack_number(frames) + pack_number(len(index))
    before = (0, 0)
    for entry in index:
        record += b"".join(pack_number(value - old) for value, old in zip(entry, before, strict=True))
        before = entry
    record += (len(record) + 4).to_bytes(2, "big")
    return record + crc16(record).to_bytes(2, "big")


def unpack_end(data: bytes) -> EndRecord | None:
    """The end record at the start of `data`; None for one that is damaged or cut off."""
    try:
        (frames, entries), at = _numbers(data, len(END) + 2, 2)
        if entries > MAX_INDEX:
            return None
        steps, at = _numbers(data, at, 2 * entries)
    except FormatError:
        return None
    size = at + 4
    length, crc = (int.from_bytes(data[at + 2 * i : at + 2 * i + 2], "big") for i in range(2))
    if len(data) < size or not data.startswith(END) or length != size or crc != crc16(data[: at + 2]):
        return None
    index, frame, offset = [], 0, 0
    for i in range(entries):
        frame, offset = frame + steps[2 * i], offset + steps[2 * i + 1]
        index.append((frame, offset))
    return EndRecord(frames, int.from_bytes(data[2:4], "big"), tuple(index), size)


class VideoWriter:
    """Writes the records of a clip one after the other; nothing is read back, so that `out` may be a pipe.

    `content` is the content check (16 bits) of all frames before since the last intra frame, that one included.
    """

    def __init__(self, out: BinaryIO, header: VideoHeader) -> None:
        """Write the header. Raises ValueError for fields out of range."""
        self.header = header
        self.frames = 0
        self.size = 0
        self._out = out
        self._index = array("Q")  # frame, offset, frame, offset, ...
        self._stride = 1
        self._intra = 0
        self._write(pack_video_header(header))

    def intra(self, payload: bytes, content: int) -> int:
        """Write an intra frame; returns the bytes of its record.

        A payload of less than one byte for `MAX_PIXELS_PER_BYTE` pixels is extended with zero bytes, which the reader
        of symbols ignores.
        """
        payload += bytes(max(0, least_payload(self.header.width, self.header.height) - len(payload)))
        if self._intra and self._intra % self._stride == 0:  # frame 0 follows the header and needs no entry
            self._index.extend((self.frames, self.size))
        self._intra += 1
        if len(self._index) > 2 * MAX_INDEX:
            self._stride *= 2
            self._index = array("Q", [v for i, v in enumerate(self._index) if i % 4 > 1])
        return self._write(pack_intra(self.frames, payload, content), 1)

    def conditional(self, payload: bytes, content: int) -> int:
        """Write a conditional frame; returns the bytes of its record."""
        return self._write(pack_conditional(payload, content), 1)

    def repeat(self, content: int) -> int:
        """Write that the frame before is repeated; returns the bytes of the record."""
        return self._write(pack_repeat(content), 1)

    def close(self, content: int) -> int:
        """Write the end record; returns its bytes."""
        entries = list(zip(self._index[::2], self._index[1::2], strict=True))
        return self._write(pack_end(self.frames, content, entries))

    def _write(self, record: bytes, frames: int = 0) -> int:
        self._out.write(record)
        self._out.flush()  # a reader at the other end of a pipe gets every frame when it is there
        self.frames += frames
        self.size += len(record)
        return len(record)
