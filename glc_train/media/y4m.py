"""Uncompressed YUV4MPEG2 (y4m): the writer, and what FFmpeg's reader leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import av

from glc_train.media.clip_colour import Colours, planes_of
from glc_train.media.clip_info import ClipError, ClipInfo, Matrix
from glc_train.media.pictures import Picture

_LONGEST_LINE = 256
_FRAME = b"FRAME\n"


class Y4mWriter:
    """Writes 8-bit 4:4:4, with the range and the matrix in its header; the format itself has no word for the matrix."""

    def __init__(self, path: Path, info: ClipInfo) -> None:
        """Write the header. Raises: OSError."""
        self._colours = Colours(info.matrix, info.full_range)
        self._file = path.open("wb")
        self._file.write(
            f"YUV4MPEG2 W{info.width} H{info.height} F{info.fps.numerator}:{info.fps.denominator} Ip A1:1 C444 "
            f"XCOLORRANGE={'FULL' if info.full_range else 'LIMITED'} XMATRIX={info.matrix.upper()}\n".encode()
        )

    def write(self, picture: Picture) -> None:
        """Append one picture, uint8 (H, W, 3). Raises: OSError."""
        self._file.write(_FRAME)
        for plane in planes_of(self._colours.to_frame(picture, "yuv444p")):
            self._file.write(plane.tobytes())

    def close(self) -> None:
        """Close the file. Raises: OSError."""
        self._file.close()


def y4m_matrix(header: bytes) -> Matrix:
    """Return the matrix that a file's `header` (or all of it) names as `Y4mWriter` does; else BT.709."""
    named = re.search(rb"^[^\n]* XMATRIX=(BT601|BT709)\b", header[:_LONGEST_LINE])
    return "bt601" if named and named[1] == b"BT601" else "bt709"


def y4m_header(path: Path) -> bytes:
    """Return the first line, empty of a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.readline(_LONGEST_LINE)
    except OSError:
        return b""


def check_y4m_length(path: Path, first: av.VideoFrame) -> int:
    """Return the number of frames of a y4m file like its `first`.

    Raises: ClipError if the last one is not whole, which FFmpeg takes for the end.
    """
    sample_bytes = (first.format.components[0].bits + 7) // 8
    frame_bytes = len(_FRAME) + sample_bytes * sum(plane.width * plane.height for plane in first.planes)
    with path.open("rb") as file:
        header = file.readline(_LONGEST_LINE)
    count, rest = divmod(path.stat().st_size - len(header), frame_bytes)
    if rest:
        raise ClipError(
            f"{path}: the file is cut short, or its frames are not of {frame_bytes} bytes each; fetch or copy it again."
        )
    return count
