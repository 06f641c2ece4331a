"""The rows of a JPEG that a crop needs, decoded without the rest of the file, where restart markers allow it.

Huffman codes have no places that decoding can start from but after restart markers (ITU-T T.81, section E.1.4). With
one after every row of blocks, any rows make a JPEG of their own: the same header with another height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from glc_train.data.pictures import Picture, decode_plain_jpeg

_START, _END = b"\xff\xd8", b"\xff\xd9"
_HUFFMAN = (0xC0, 0xC1)  # frames of one scan: baseline and extended
_OTHER_FRAMES = (0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_SCAN, _INTERVAL, _EXIF = 0xDA, 0xDD, 0xE1
_RESTART, _RESTARTS = 0xD0, 8  # markers RST0 to RST7 take turns
_BLOCK = 8  # pixels


@dataclass(frozen=True)
class JpegRows:
    """A JPEG of restart intervals that are whole rows of blocks.

    Attributes:
        height, width: of the picture, in pixels.
        data: of the file.
    """

    height: int
    width: int
    data: bytes
    _height_at: int  # place of the height in the data
    _scan_at: int  # place of the coded blocks
    _step: int  # rows of pixels in an interval
    _context: int  # intervals beside those wanted that their pixels depend on

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """Read the header of a picture file; `None` for one that is no such JPEG, or that has to be turned upright."""
        if not data.startswith(_START):
            return None
        height_at = interval = 0
        sampling: list[tuple[int, int]] = []  # of the components, horizontal and vertical
        place = len(_START)
        while place + 4 <= len(data) and data[place] == 0xFF:
            kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
            content = data[place + 4 : place + 2 + length]
            if kind in _OTHER_FRAMES or (kind == _EXIF and content.startswith(b"Exif")):
                return None
            if kind in _HUFFMAN and len(content) > 5:
                height_at = place + 5
                sampling = [divmod(factors, 16) for factors in content[7::3]]
            elif kind == _INTERVAL:
                interval = int.from_bytes(content, "big")
            elif kind == _SCAN:
                if not height_at or not content or content[0] != len(sampling):
                    return None
                return cls._checked(data, height_at, place + 2 + length, interval, sampling)
            place += 2 + length
        return None

    @classmethod
    def _checked(
        cls, data: bytes, height_at: int, scan_at: int, interval: int, sampling: list[tuple[int, int]]
    ) -> Self | None:
        height, width = (int.from_bytes(data[place : place + 2], "big") for place in (height_at, height_at + 2))
        if len(sampling) not in (1, 3) or not height or not width or not all(all(pair) for pair in sampling):
            return None
        if height * width > (Image.MAX_IMAGE_PIXELS or height * width):
            return None
        # the blocks of one component alone are not interleaved, whatever its factors
        wide, high = (max(pair[k] for pair in sampling) if len(sampling) > 1 else 1 for k in (0, 1))
        across = -(-width // (_BLOCK * wide))
        if not interval or interval % across:
            return None
        step = interval // across * _BLOCK * high
        # chroma of fewer rows is interpolated from those beside
        return cls(height, width, data, height_at, scan_at, step, int(high > 1))

    def decode(self, top: int, bottom: int) -> tuple[int, Picture] | None:
        """Decode rows `top` to `bottom`, and a few beside them, with the pixels that the whole picture has there.

        Returns: number of the first row, and uint8 (rows, W, 3) RGB; `None` if the file is damaged, or only this way
            of reading it finds fault with it.
        """
        count = -(-self.height // self._step)
        first = max(0, top // self._step - self._context)
        last = min(count, -(-bottom // self._step) + self._context)
        codes = np.frombuffer(self.data, np.uint8)[self._scan_at :]
        markers = _restarts(codes)
        if len(markers) != count - 1 or (codes[markers + 1] != _restart_codes(len(markers))).any():
            return None
        start = int(markers[first - 1]) + 2 if first else 0
        part = codes[start : int(markers[last - 1]) if last < count else len(codes)].copy()
        inner = markers[first : last - 1] - start
        part[inner + 1] = _restart_codes(len(inner))
        rows = min(last * self._step, self.height) - first * self._step
        header = self.data[: self._height_at] + rows.to_bytes(2, "big") + self.data[self._height_at + 2 : self._scan_at]
        picture = decode_plain_jpeg(header + part.tobytes() + _END)
        return None if picture is None else (first * self._step, picture)


def _restarts(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Places of the restart markers; a byte 255 of coded blocks is always followed by a zero."""
    places = np.flatnonzero(codes[:-1] == 0xFF)
    return places[codes[places + 1] // _RESTARTS == _RESTART // _RESTARTS]


def _restart_codes(count: int) -> npt.NDArray[np.uint8]:
    return (_RESTART + np.arange(count) % _RESTARTS).astype(np.uint8)
