"""Raw 8-bit 4:2:0 video without a header: read, and stored without loss in a file that says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from glc_train.files import replacing
from glc_train.media.clip_colour import MATRIX_TAG, Colours, planes_of
from glc_train.media.clip_info import ClipError, ClipInfo
from glc_train.media.pictures import Picture

# FFV1 version 3: every frame by itself, in slices that are coded side by side and have a checksum each
_FFV1 = {"level": "3", "g": "1", "slices": "16", "slicecrc": "1"}


class RawFrames:
    """Planes Y, U, V of each frame one after the other; chroma of odd sides is rounded up."""

    def __init__(self, path: Path, size: tuple[int, int] | None, fps: Fraction) -> None:
        """Check that the file is a whole number of frames of `size`, width and height. Raises: ClipError."""
        if not path.is_file():
            raise ClipError(f"{path}: no such file; check the path.")
        if size is None:
            raise ClipError(f"{path}: raw video does not say its size; give its width and height.")
        width, height = size
        if width < 1 or height < 1:
            raise ClipError(f"{path}: width and height must be positive; got {width}×{height}.")
        frame_bytes = width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
        count, rest = divmod(path.stat().st_size, frame_bytes)
        if rest or not count:
            raise ClipError(
                f"{path}: {path.stat().st_size} bytes are not a whole number of {width}×{height} frames of "
                f"{frame_bytes} bytes (8 bits, 4:2:0); check the size."
            )
        self._path = path
        self.info = ClipInfo(width, height, fps, "bt709", False, count)

    def __iter__(self) -> Iterator[Picture]:
        """Yield uint8 RGB (H, W, 3)."""
        colours = Colours(self.info.matrix, self.info.full_range)
        return map(colours.to_picture, self.frames())

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield the frames as they are, YUV 4:2:0."""
        with self._path.open("rb") as file:
            for _ in range(self.info.frames or 0):
                frame = av.VideoFrame(self.info.width, self.info.height, "yuv420p")
                for plane in planes_of(frame):
                    plane[:] = np.frombuffer(file.read(plane.size), np.uint8).reshape(plane.shape)
                yield frame

    def close(self) -> None:
        """Do nothing: the file is open only while it is iterated over."""


def store_raw_video(path: Path, size: tuple[int, int], fps: Fraction, target: Path) -> None:
    """Store raw video as FFV1 in Matroska (.mkv): the same samples, with size, rate, BT.709 and range beside them.

    `open_clip` gives the same pictures of both. The file appears whole or not at all.
    Raises: ClipError if the raw file is not a whole number of frames of `size`, width and height; OSError.
    """
    raw = RawFrames(path, size, fps)
    with replacing(target) as temporary, av.open(f"file:{temporary}", "w") as container:
        stream = cast(Any, container.add_stream("ffv1", rate=fps, options=_FFV1))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = MATRIX_TAG[raw.info.matrix]
        context.color_range = 1  # limited
        context.thread_type = "SLICE"
        for number, frame in enumerate(raw.frames()):
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
