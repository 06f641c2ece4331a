"""The part of a JPEG that a crop needs, decoded with as little as possible of the rest of the file.

Huffman codes have no places that decoding can start from but after restart markers (ITU-T T.81, section E.1.4). Those
intervals between markers that hold the wanted blocks make a JPEG of their own: the same header with another size.
Without such markers the rows below the crop are left out, in the same way.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from glc_train.media.pictures import Picture, decode_plain_jpeg

_START, _END = b"\xff\xd8", b"\xff\xd9"
_ORIENTATION = 274  # tag of EXIF
_HUFFMAN = (0xC0, 0xC1)  # frames of one scan: baseline and extended
_OTHER_FRAMES = (0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_SCAN, _INTERVAL, _APP1 = 0xDA, 0xDD, 0xE1
_RESTART, _RESTARTS = 0xD0, 8  # markers RST0 to RST7 take turns
_BLOCK = 8  # pixels


@dataclass(frozen=True)
class JpegParts:
    """A JPEG of one Huffman-coded scan, grey or of three components, that does not have to be turned upright.

    Attributes:
        height, width: of the picture, in pixels.
        data: of the file.
    """

    height: int
    width: int
    data: bytes
    _height_at: int  # place of the height in the data, before the width
    _scan_at: int  # place of the coded blocks
    _tall: int  # rows of pixels to one of the coarsest component
    _interval: int  # blocks between markers, at most a row; 0: blocks depend on each other

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """Read the header of a picture file; `None` for one that is no such JPEG, or that has to be turned upright."""
        if not data.startswith(_START):
            return None
        height_at = interval = 0
        sampling, tagged = b"", False
        place = len(_START)
        while place + 4 <= len(data) and data[place] == 0xFF:
            kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
            content = data[place + 4 : place + 2 + length]
            if kind in _OTHER_FRAMES:
                return None
            if kind in _HUFFMAN and len(content) > 5:
                height_at, sampling = place + 5, content[7::3]
                if len(sampling) != content[5] or len(sampling) not in (1, 3):
                    return None
            elif kind == _INTERVAL:
                interval = int.from_bytes(content, "big")
            elif kind == _APP1:
                tagged = True
            elif kind == _SCAN:
                if not height_at or not content or content[0] != len(sampling) or (tagged and not _is_upright(data)):
                    return None
                height, width = (int.from_bytes(data[k : k + 2], "big") for k in (height_at, height_at + 2))
                if not 0 < height * width <= (Image.MAX_IMAGE_PIXELS or height * width):
                    return None
                apart = set(sampling) == {0x11} and interval <= -(-width // _BLOCK)
                tall = max(factors & 15 for factors in sampling)
                return cls(height, width, data, height_at, place + 2 + length, tall, interval if apart else 0)
            place += 2 + length
        return None

    def decode(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, Picture] | None:
        """Decode rows `top` to `bottom` of columns `left` to `right`, with the pixels that the whole picture has there.

        Returns: row and column of the first pixel, and uint8 (rows, columns, 3) RGB, at least what was asked for;
            `None` if the file is damaged, or not for the fast decoder.
        """
        part = self._intervals(top, left, bottom, right) if self._interval else None
        return self._upper(bottom) if part is None else part

    def _upper(self, bottom: int) -> tuple[int, int, Picture] | None:
        """Decode the rows above `bottom` of all columns."""
        if self.data.rfind(_END) < self._scan_at:  # cut short: not even what is left of it is used
            return None
        # chroma is interpolated between its rows: one more than lies in the crop
        height = min(bottom + 2 * self._tall, self.height)
        # what lies below is a harmless defect to the decoder; others, harmless or not, have the pixels of the whole
        picture = decode_plain_jpeg(self._with_size(height, self.width, self.data[self._scan_at :]), strict=False)
        return None if picture is None else (0, 0, picture)

    def _with_size(self, height: int, width: int, codes: bytes | bytearray) -> bytes:
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        return b"".join((self.data[: self._height_at], size, self.data[self._height_at + 4 : self._scan_at], codes))

    def _intervals(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, Picture] | None:
        """Decode the intervals between restart markers that hold these pixels."""
        across, down = -(-self.width // _BLOCK), -(-self.height // _BLOCK)
        ends, codes = _restarts(self.data, self._scan_at)  # of the intervals, where their markers begin
        whole, left_over = divmod(across * down, self._interval)
        last = self.data.find(_END, int(ends[-1]) if len(ends) else self._scan_at)
        if len(ends) != whole - (not left_over) or last < 0 or (codes != _restart_codes(len(codes))).any():
            return None
        rows, column, columns = range(top // _BLOCK, -(-bottom // _BLOCK)), left // _BLOCK, -(-right // _BLOCK)
        begins = np.arange(rows.start, rows.stop) * across + column  # first block of each row
        first = begins // self._interval  # and its interval
        count = int(((begins + (columns - column - 1)) // self._interval - first).max()) + 1
        first = np.minimum(first, whole - count)
        if first[0] < 0 or rows[-1] * across + columns > whole * self._interval:  # the last interval is a short one
            return None
        ends = np.append(ends, last)
        starts = np.append(self._scan_at, ends[:-1] + 2)[first]
        stops = ends[first + (count - 1)] + 2  # the marker belongs to the interval
        part = bytearray().join([self.data[k:m] for k, m in zip(starts.tolist(), stops.tolist(), strict=True)])
        moved = np.cumsum(stops - starts) - stops  # by how much each row lies elsewhere in the part
        markers = (ends[first[:, None] + np.arange(count)] + moved[:, None]).ravel()
        np.frombuffer(part, np.uint8)[markers + 1] = _restart_codes(len(markers))
        part[-2:] = _END
        picture = decode_plain_jpeg(self._with_size(len(rows) * _BLOCK, count * self._interval * _BLOCK, part))
        if picture is None:
            return None
        offsets = (begins - first * self._interval) * _BLOCK
        wide = (columns - column) * _BLOCK
        strips = [picture[_BLOCK * k : _BLOCK * (k + 1), at : at + wide] for k, at in enumerate(offsets.tolist())]
        return rows[0] * _BLOCK, column * _BLOCK, np.concatenate(strips)


def _is_upright(data: bytes) -> bool:
    """Whether EXIF or XMP, if they can be read, leave the picture as it is stored."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("error")
            return bool(image.getexif().get(_ORIENTATION, 1) == 1)
    except Exception:  # said better where it is read as a picture
        return False


def _restarts(data: bytes, start: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Places and codes of the restart markers; a byte 255 of coded blocks is always followed by a zero."""
    values = np.frombuffer(data, np.uint8)
    places = start + np.flatnonzero(values[start:-1] == 0xFF)
    codes = values[places + 1]
    found = codes // _RESTARTS == _RESTART // _RESTARTS
    return places[found], codes[found]


def _restart_codes(count: int) -> npt.NDArray[np.uint8]:
    return (_RESTART + np.arange(count) % _RESTARTS).astype(np.uint8)
