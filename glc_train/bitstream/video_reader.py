"""Reading a .glcv file from front to back, over damage and from any intra frame, in bounded memory."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from glc_train.bitstream.fields import crc8, crc16, least_payload
from glc_train.bitstream.video_container import (
    END,
    IMPLIED,
    INTRA,
    MAX_END,
    MAX_INTRA_HEAD,
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

    def has(self, count: int) -> bool:
        """Whether the stream has `count` more bytes. Reads none beyond them, for a pipe may not have more yet."""
        missing = count - (len(self._held) - self._at)
        while missing > 0:
            more = self._source.read(missing)
            if not more:
                return False
            self._held += more
            missing -= len(more)
        return True

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end of the stream."""
        self.has(count)
        return bytes(self._held[self._at : self._at + count])

    def advance(self, count: int) -> None:
        """Leave `count` bytes behind that were peeked at."""
        self._at += count
        if self._at > max(_COMPACT, len(self._held) // 2):
            del self._held[: self._at]
            self._at = 0

    def restart(self, offset: int) -> None:
        """Go on at `offset` of the source, which must be seekable."""
        self._source.seek(offset)
        self._held.clear()
        self._at = 0


class VideoReader:
    """Reads the records of a clip one after the other, from a file or a pipe.

    What is damaged is passed over up to the next intra frame or the end record, and reported with it.
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
        self._ahead = length  # bytes of what was returned last, left behind when the next record is asked for

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
        elif not self.header.is_intra(self._expected):
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
            self._ahead = 0
        self._window.advance(1)
        record = self._scan(self._expected)
        return self._cut(reason) if record is None else self._found(record, reason)

    def seek(self, frame: int) -> None:
        """Make `next_record` return the intra frame from which `frame` (0 or later) is decoded.

        The index at the end of the file leads there. Without one (a pipe, a file cut short) all that comes before is
        searched for intra frames. Where that intra frame is damaged or missing, `next_record` says so and returns the
        next one.

        Raises:
            ValueError: that intra frame has gone by, and the stream is a pipe.
        """
        period = self.header.intra_period
        target = 0 if period is None else frame - frame % period
        if self._start is not None:
            end = self.read_index()
            before = [offset for number, offset in (end.index if end else ()) if number <= target]
            self._window.restart(self._start + (before[-1] if before else self.header_size))
            self._ahead = 0
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
            end = unpack_end(window.peek(MAX_END))
            if end is None or window.has(end.size + 1):
                return None
            return VideoRecord("end", end.frames, size=end.size, before=end.content)
        lengths = range(MIN_INTRA_HEAD, MAX_INTRA_HEAD + 1)  # not all at once: a pipe may end with a shorter record
        head = next((head for length in lengths if (head := unpack_intra(window.peek(length)))), None)
        if head is None or not self.header.is_intra(head.frame):
            return None
        if not least_payload(self.header.width, self.header.height) <= head.length <= MAX_PAYLOAD:
            return None
        size = head.size + head.length
        if not window.has(size):
            return None
        payload = window.peek(size)[head.size :]
        if crc16(payload) != head.payload_crc:
            return None
        return VideoRecord("intra", head.frame, payload, size, head.content)

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
        if not window.has(size):
            return None
        record = window.peek(size)
        payload = record[len(head) + 1 :]
        if content is not None and record[len(head)] != crc8(head + payload, content & 0xFF):
            return None
        if first == REPEAT:
            return VideoRecord("repeat", self._expected, b"", size)
        return VideoRecord("conditional", self._expected, payload or IMPLIED, size)
