"""Clips in: video files, raw YUV and folders of frames as an iteration over RGB pictures, one at a time.

Colour: the matrix and range that a video is tagged with. Where it says nothing, y4m and raw video are BT.709, as the
papers' protocol takes test sequences; other files are BT.709 from 720 rows on and BT.601 below, as players take them;
and the range is limited. Samples of more than 8 bits are rounded to 8; rotation tags are applied; sound is left out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from glc_train.media.clip_info import DEFAULT_FPS, ClipError, ClipInfo, natural_key
from glc_train.media.clip_writer import ClipWriter, write_clip
from glc_train.media.pictures import PathLike, Picture, PictureError, read_picture, search_pictures
from glc_train.media.raw_video import RawFrames
from glc_train.media.video_file import VideoFrames
from glc_train.media.walk import FoundFiles
from glc_train.media.y4m import check_y4m_length, y4m_header, y4m_matrix

__all__ = [
    "VIDEO_SUFFIXES",
    "ClipError",
    "ClipInfo",
    "ClipReader",
    "ClipWriter",
    "frame_files",
    "open_clip",
    "read_frame",
    "write_clip",
]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".y4m", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv")
_RAW_SUFFIX = ".yuv"


class _Frames(Protocol):
    info: ClipInfo

    def __iter__(self) -> Iterator[Picture]: ...

    def close(self) -> None: ...


class ClipReader:
    """An open clip: an iterator over its frames, uint8 RGB (H, W, 3), that passes over the clip once.

    One frame is held at a time (the decoder keeps a few more), whatever the length. Iterating raises `ClipError` where
    the file is damaged or its frames change size, and warns once where frames do not come at a constant rate.
    """

    def __init__(self, frames: _Frames) -> None:
        """Read from `frames`; see `open_clip`."""
        self.info = frames.info
        self._source = frames
        self._frames = iter(frames)

    def __iter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __next__(self) -> Picture:
        """Return the next frame, uint8 RGB (H, W, 3)."""
        return next(self._frames)

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; the iteration ends."""
        if isinstance(self._frames, Generator):
            self._frames.close()
        self._frames = iter(())
        self._source.close()


def open_clip(path: PathLike, size: tuple[int, int] | None = None, fps: Fraction | None = None) -> ClipReader:
    """Open a clip for reading; close it, or use it as a context manager.

    path: a video file that FFmpeg's libraries decode; raw planar 8-bit 4:2:0 (`.yuv`), with `size`; or a folder of
        pictures of one size, taken in natural order (im2 before im10).
    size: (width, height) in pixels of raw video; of other clips it is not looked at.
    fps: frames per second, in place of what the file says. Folders and raw video do not say; theirs are 25 by default.
    Raises: ClipError for a missing file, one that is no video, damage found on opening, and a size that does not fit.
    """
    path = Path(path)
    if path.is_dir():
        return ClipReader(_FolderFrames(path, fps or DEFAULT_FPS))
    if path.suffix.lower() == _RAW_SUFFIX:
        return ClipReader(RawFrames(path, size, fps or DEFAULT_FPS))
    if path.suffix.lower() == ".y4m":
        return ClipReader(VideoFrames(path, fps, y4m_matrix(y4m_header(path)), check_y4m_length))
    return ClipReader(VideoFrames(path, fps))


def frame_files(folder: Path) -> FoundFiles:
    """Find the pictures of a folder of frames, in natural order. Raises: ClipError if it is missing or has none."""
    try:
        found = search_pictures(folder, recursive=False)
    except PictureError as error:
        raise ClipError(str(error)) from error
    found.files.sort(key=natural_key)
    return found


def read_frame(path: Path) -> Picture:
    """Read one frame of a folder: uint8 (H, W, 3). Raises: ClipError if it is unreadable."""
    try:
        return read_picture(path)
    except PictureError as error:
        raise ClipError(str(error)) from error


class _FolderFrames:
    def __init__(self, folder: Path, fps: Fraction) -> None:
        self._files = frame_files(folder).files
        height, width = read_frame(self._files[0]).shape[:2]
        # RGB has no matrix; this is what a video written of it will get.
        self.info = ClipInfo(width, height, fps, "bt709", False, len(self._files))

    def __iter__(self) -> Iterator[Picture]:
        for file in self._files:
            picture = read_frame(file)
            if picture.shape[:2] != (self.info.height, self.info.width):
                raise ClipError(
                    f"{file}: {picture.shape[1]}×{picture.shape[0]} pixels, but the first frame of the folder has "
                    f"{self.info.width}×{self.info.height}; a folder holds one clip of one size."
                )
            yield picture

    def close(self) -> None:
        pass
