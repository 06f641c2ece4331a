"""Decoded frames to RGB pictures and back: colour matrix, colour range, bit depth and orientation.

The conversions are libswscale's with accurate rounding and interpolated chroma: a colour that fills a few pixels comes
back within 2 of 255 in each channel. BITEXACT keeps them the same on every processor.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from glc_train.media.clip_info import Matrix
from glc_train.media.pictures import Picture

_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
_COLOUR_SPACES = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}
# AVColorSpace, ITU-T H.273 table 4: 1 is BT.709, 5 and 6 are BT.601 (625 and 525 lines); 0 is RGB, 2 unspecified
_TAGGED: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601"}
_UNTAGGED = (0, 2, 3)
MATRIX_TAG: dict[Matrix, int] = {"bt601": 6, "bt709": 1}


def _unknown_type(kind: type[SideDataType], value: object) -> SideDataType:
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"TYPE_{value}", value
    return member


# PyAV refuses all side data of a frame if it does not know the type of one: EXIF, or whatever FFmpeg adds next
SideDataType._missing_ = classmethod(_unknown_type)  # type: ignore[method-assign, assignment]


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the frame holds RGB (or a palette of it), to which no matrix or range applies."""
    return frame.format.is_rgb or frame.format.name == "pal8"


def tagged_matrix(frame: av.VideoFrame) -> Matrix | None:
    """Matrix that the frame is tagged with; `None` if it says nothing.

    Raises: KeyError, holding the code of ITU-T H.273, for a matrix other than BT.601 and BT.709.
    """
    if is_rgb(frame) or frame.colorspace in _UNTAGGED:
        return None
    return _TAGGED[frame.colorspace]


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether the frame is YUV tagged as full range; what is not tagged is limited."""
    return not is_rgb(frame) and (frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj"))


class Colours:
    """Converts frames of one matrix and range between YUV and RGB."""

    def __init__(self, matrix: Matrix, full_range: bool) -> None:
        """Convert by `matrix`, with luma 0 to 255 if `full_range`, else 16 to 235."""
        self._matrix = _COLOUR_SPACES[matrix]
        self._range = ColorRange.JPEG if full_range else ColorRange.MPEG
        self._reformatter = VideoReformatter()

    def to_picture(self, frame: av.VideoFrame) -> Picture:
        """Return uint8 (H, W, 3) RGB, upright, of a frame of any pixel format and bit depth."""
        if is_rgb(frame):
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=_FLAGS)
        else:
            rgb = self._reformatter.reformat(
                frame,
                format="gbrp",  # twice as fast as packed RGB, with the same values
                src_colorspace=self._matrix,
                src_color_range=self._range,
                dst_color_range=ColorRange.JPEG,
                interpolation=_FLAGS,
            )
        return np.ascontiguousarray(_upright(rgb.to_ndarray().astype(np.uint8, copy=False), frame))

    def to_frame(self, picture: Picture, pixel_format: str) -> av.VideoFrame:
        """Return a picture, uint8 (H, W, 3) RGB, as a frame of the YUV `pixel_format`, tagged."""
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"),
            format=pixel_format,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=self._matrix,
            dst_color_range=self._range,
            interpolation=_FLAGS,
        )


def planes_of(frame: av.VideoFrame) -> list[npt.NDArray[np.uint8]]:
    """Return writable views of an 8-bit planar frame's planes, (rows, columns) each, without the padding."""
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]  # type: ignore[call-overload]
        for plane in frame.planes
    ]


def _upright(pixels: Picture, frame: av.VideoFrame) -> Picture:
    """Apply the display matrix [a b u; c d v; x y w], which takes a stored place (x, y) to (ax + cy, bx + dy)."""
    side_data: Any = frame.side_data  # its annotation knows only names as keys
    data = side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) > abs(a):  # turned by 90 degrees one way or the other; angles between are not for displays
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if d < 0 else pixels
