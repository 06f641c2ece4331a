"""Reading a .glcv file from front to back, over damage and from any intra frame, in bounded memory."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal, cast

from glc_train.bitstream.container import ImageHeader, unpack_image
from glc_train.bitstream.fields import KIND_VIDEO, crc8, crc16, kind_of, least_payload
from glc_train.bitstream.video_container import (
    END,
    IMPLIED,
    INTRA,
    INTRA_CHECKS,
    MAX_END,
    MAX_INTRA_NUMBERS,
    MAX_PAYLOAD,
    MIN_INTRA_HEAD,
    REPEAT,
    EndRecord,
    VideoHeader,
    head_bytes,
    payload_length,
    unpack_end,
    unpack_intra,
    unpack_video_header,
    video_header_length,
)

FrameKind = Literal["intra", "conditional", "repeat"]
_COMPACT = 65536  # bytes left behind before they are let go
_SCAN = 64  # bytes looked at together when searching: few, for a pipe may have no more for the time being
_MARKER = re.compile(re.escape(INTRA) + b"|" + re.escape(END))
_INTRA_NUMBERS = re.compile(re.escape(INTRA) + rb"(?:[\x80-\xff]{0,4}[\x00-\x7f]){2}")
_CHEAP = 4096
"""A record of at most this many bytes is checked wherever one seems to begin."""
_MAX_FAILED = 8
"""A longer one only where fewer failed records than this reach to: so every byte is read a bounded number of times."""


@dataclass(frozen=True)
class Damage:
    """Frames that could not be decoded, or not as they were encoded.

    first, end: the frames first..end-1; end None: nobody knows how many, the rest of the clip is missing. reason: a
    clause that says what is wrong.
    """

    first: int
    end: int | None
    reason: str

    def __str__(self) -> str:
        """One line for people."""
        if self.end is None:
            return f"from frame {self.first} on: {self.reason}"
        if self.end <= self.first:
            return f"before frame {self.first}: {self.reason}"
        frames = f"frame {self.first}" if self.end == self.first + 1 else f"frames {self.first} to {self.end - 1}"
        return f"{frames}: {self.reason}"


@dataclass(frozen=True)
class VideoRecord:
    """One record.

    kind: of the frame, or "end" (also where the stream stops without its end record). frame: its number; of the end:
    the number of frames. payload: see `SymbolReader`. size: bytes of the record. before: content check of the frames
    before, in intra and end records. damage: what was passed over before it.
    """

    kind: FrameKind | Literal["end"]
    frame: int
    payload: bytes = b""
    size: int = 0
    before: int | None = None
    damage: Damage | None = None


class ByteWindow:
    """The bytes of a stream ahead of the reader, as many as were asked for."""

    def __init__(self, source: BinaryIO) -> None:
        """Begin where the source stands."""
        self._source = source
        self._held = bytearray()
        self._at = 0
        self._exhausted = False
        self.position = 0
        """Bytes left behind, from where the window began or restarted."""

    def has(self, count: int) -> bool:
        """Whether the stream has `count` more bytes. Reads none beyond them, for a pipe may not have more yet."""
        missing = count - (len(self._held) - self._at)
        while missing > 0 and not self._exhausted:
            more = self._source.read(missing)
            self._exhausted = not more
            self._held += more
            missing -= len(more)
        return missing <= 0

    def left(self, most: int) -> int:
        """How many bytes the stream has left, or `most` if there are more."""
        self.has(most)
        return min(most, len(self._held) - self._at)

    def peek(self, count: int, skip: int = 0) -> bytes:
        """The next `count` bytes after `skip` others, fewer at the end of the stream."""
        self.has(skip + count)
        return bytes(self._held[self._at + skip : self._at + skip + count])

    def advance(self, count: int) -> None:
        """Leave `count` bytes behind that were peeked at."""
        self._at += count
        self.position += count
        if self._at > max(_COMPACT, len(self._held) // 2):
            del self._held[: self._at]
            self._at = 0

    def restart(self, offset: int) -> None:
        """Go on at `offset` of the source, which must be seekable."""
        self._source.seek(offset)
        self._held.clear()
        self._at = self.position = 0
        self._exhausted = False


class VideoReader:
    """Reads the records of a clip one after the other, from a file or a pipe.

    What is damaged is passed over up to the next intra frame or the end record, and reported with it. The work grows
    with the bytes of the stream and no faster, whatever they are.
    """

    def __init__(self, source: BinaryIO, name: str = "The stream") -> None:
        """Read the header.

        Raises FormatError, whose message begins with `name`, for data that does not begin as a clip.
        """
        self.name = name
        self._source = source
        self._start = source.tell() if source.seekable() else None
        self._window = ByteWindow(source)
        length = video_header_length(self._window.peek(2), name)
        self.header: VideoHeader = unpack_video_header(self._window.peek(length), name)
        self.header_size = length
        self._expected = 0  # number of the next frame
        self._last_intra = 0
        self._ahead = length  # bytes of what was returned last, left behind when the next record is asked for
        self._failed: list[int] = []  # where records end that were looked through and are none

    def next_record(self, content: int | None = None) -> VideoRecord:
        """The next record.

        Args:
            content: content check of the frames before since the last intra frame, that one included. None does not
                check conditional and repeated frames: for those who only look.
        """
        self._leave()
        first = self._window.peek(1)
        if not first:
            return self._cut("the stream is cut short, its end record is missing")
        reason = "the record is damaged or cut short, or frames before it did not decode as they were encoded"
        if first[0] in (INTRA[0], END[0]):
            record = self._marked()
            if record is not None and record.frame >= self._expected:
                return self._found(record, "missing in the stream" if record.frame > self._expected else None)
            what = "the end record is damaged, or bytes follow it"
            reason = "the record is damaged or cut short" if first == INTRA[:1] else what
        elif not self.header.is_intra(self._expected, self._last_intra):
            record = self._unmarked(first[0], content)
            if record is not None:
                return self._found(record, None)
        return self.resync(reason)

    def resync(self, reason: str) -> VideoRecord:
        """The next intra frame or the end, passing over the present record, which `reason` says is unusable.

        Call it after `next_record` for a record that looked right but did not decode.
        """
        if self._ahead:
            self._expected -= 1
            self._fail(self._ahead)
            self._ahead = 0
        self._window.advance(1)
        record = self._scan(self._expected)
        return self._cut(reason) if record is None else self._found(record, reason)

    def seek(self, frame: int) -> None:
        """Make `next_record` return the intra frame from which `frame` (0 or later) is decoded.

        The index at the end of the file leads there. Without one (a pipe, a file cut short) all that comes before is
        searched for intra frames, or, where they may stand at scene cuts, decoding begins with the first frame. Where
        that intra frame is damaged or missing, `next_record` says so and returns the next one.

        Raises:
            ValueError: `frame` is negative, or that intra frame has gone by and the stream is a pipe.
        """
        if frame < 0:
            raise ValueError(f"frames are counted from 0: there is no frame {frame}")
        end = self.read_index()
        listed = (0, self.header_size), *(end.index if end else ())
        listed_frame, offset = max(entry for entry in listed if entry[0] <= frame)
        period = self.header.intra_period
        target = listed_frame if self.header.scene_cuts else 0 if period is None else frame - frame % period
        if self._start is not None:
            self._window.restart(self._start + offset)
            self._ahead = 0
            self._failed.clear()
        elif self._expected > target:
            raise ValueError(f"{self.name} is a pipe, which cannot be read again from frame {target}: use a file.")
        self._leave()
        found = self._scan(target)
        self._expected = target if found is None else min(target, found.frame)

    def read_index(self) -> EndRecord | None:
        """The end record, found from the end of the file; None for a pipe, or where it is damaged or missing.

        Leaves the source somewhere else: call `seek` next.
        """
        if self._start is None:
            return None
        size = self._source.seek(0, io.SEEK_END) - self._start
        tail_size = min(size, MAX_END)
        self._source.seek(self._start + size - tail_size)
        tail = self._source.read(tail_size)
        length = int.from_bytes(tail[-4:-2], "big")
        return unpack_end(tail[-length:]) if 0 < length <= len(tail) else None

    def _leave(self) -> None:
        self._window.advance(self._ahead)
        self._ahead = 0

    def _found(self, record: VideoRecord, reason: str | None) -> VideoRecord:
        damage = Damage(self._expected, record.frame, reason) if reason else None
        self._expected = record.frame + (record.kind != "end")
        if record.kind == "intra":
            self._last_intra = record.frame
        self._ahead = record.size
        return replace(record, damage=damage)

    def _cut(self, reason: str) -> VideoRecord:
        return VideoRecord("end", self._expected, damage=Damage(self._expected, None, reason))

    def _scan(self, least: int) -> VideoRecord | None:
        """The next intra record of frame `least` or a later one, or the end, where the window then stands."""
        while True:
            chunk = self._window.peek(_SCAN)
            if len(chunk) < len(INTRA):
                return None
            match = _MARKER.search(chunk)
            if match is None:
                self._window.advance(len(chunk) - 1)
                continue
            self._window.advance(match.start())
            record = self._marked()
            if record is not None and (record.kind == "end" or record.frame >= least):
                return record
            self._window.advance(1)

    def _marked(self) -> VideoRecord | None:
        """The intact intra or end record at which the window stands."""
        window = self._window
        if window.peek(len(END)) == END:
            size = window.left(MAX_END + 1)
            # The stream ends with its length: of all places where an end record seems to begin, one can be right.
            if size > MAX_END or int.from_bytes(window.peek(2, size - 4), "big") != size:
                return None
            end = unpack_end(window.peek(size))
            return None if end is None else VideoRecord("end", end.frames, size=size, before=end.content)
        # Never more at once than such a record has: a pipe may end with a short one.
        match = _INTRA_NUMBERS.match
        numbers = match(window.peek(MIN_INTRA_HEAD)) or match(window.peek(MAX_INTRA_NUMBERS))
        head = unpack_intra(window.peek(numbers.end() + INTRA_CHECKS)) if numbers else None
        if head is None or not (self.header.scene_cuts or self.header.is_intra(head.frame)):
            return None
        if not least_payload(self.header.width, self.header.height) <= head.length <= MAX_PAYLOAD:
            return None
        size = head.size + head.length
        if not self._worth(size):
            return None
        payload = window.peek(head.length, head.size)
        if crc16(payload) != head.payload_crc:
            self._fail(size)
            return None
        return VideoRecord("intra", head.frame, payload, size, head.content)

    def _worth(self, size: int) -> bool:
        """Whether a record of `size` bytes is to be looked through here."""
        here = self._window.position
        self._failed = [end for end in self._failed if end > here]
        return (size <= _CHEAP or len(self._failed) < _MAX_FAILED) and self._window.has(size)

    def _fail(self, size: int) -> None:
        if size > _CHEAP:
            self._failed.append(self._window.position + size)

    def _unmarked(self, first: int, content: int | None) -> VideoRecord | None:
        """The intact record of a conditional or repeated frame at which the window stands."""
        window = self._window
        if first == REPEAT:
            head, length = bytes([REPEAT]), 0
        else:
            head = window.peek(head_bytes(first))
            found = payload_length(head)
            if found is None:
                return None
            length = found
        size = len(head) + 1 + length
        if not self._worth(size):
            return None
        record = window.peek(size)
        payload = record[len(head) + 1 :]
        if content is not None and record[len(head)] != crc8(head + payload, content & 0xFF):
            self._fail(size)
            return None
        if first == REPEAT:
            return VideoRecord("repeat", self._expected, b"", size)
        return VideoRecord("conditional", self._expected, payload or IMPLIED, size)


def read_header(source: BinaryIO, name: str) -> ImageHeader | VideoHeader:
    """What a file says of its picture or clip before anything is decoded; leaves it at its beginning.

    Args:
        source: a file that can be sought.
        name: begins the messages of a FormatError, raised as of `unpack_image` and `VideoReader`.
    """
    start = source.read(1)
    source.seek(0)
    header = VideoReader(source, name).header if kind_of(start) == KIND_VIDEO else unpack_image(source.read(), name)[0]
    source.seek(0)
    return header


class _Resumed(io.RawIOBase):
    """A pipe whose first bytes were read already."""

    def __init__(self, start: bytes, source: BinaryIO) -> None:
        self._start = start
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        part = self._start[: len(view)] or self._source.read(len(view))
        self._start = self._start[len(part) :]
        view[: len(part)] = part
        return len(part)


def read_pipe_header(source: BinaryIO, name: str) -> tuple[VideoHeader, BinaryIO]:
    """As `read_header` of a clip that comes through a pipe, and the pipe as if nothing had been read from it."""
    start = source.read(2)
    start += source.read(video_header_length(start, name) - len(start))
    return unpack_video_header(start, name), cast(BinaryIO, _Resumed(start, source))
