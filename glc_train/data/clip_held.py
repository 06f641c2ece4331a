"""Frames of a clip whose files are in memory: opened once, decoded from the key frame before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from glc_train.data.crops import reduced
from glc_train.data.frame_index import FrameIndex
from glc_train.media.clip_colour import Colours
from glc_train.media.clip_info import ClipError, ClipInfo, natural_key
from glc_train.media.clips import VIDEO_SUFFIXES
from glc_train.media.pictures import Picture, PictureError, decode_picture
from glc_train.media.timeline import shows_a_frame, timeline_of
from glc_train.media.video_file import VideoFile, checked_picture, describe
from glc_train.media.y4m import y4m_matrix

_Y4M = ".y4m"


class HeldFrames:
    """A clip of one picture a frame."""

    def __init__(self, files: Mapping[str, bytes], short_side: int | None) -> None:
        """Take the pictures `files`, by name, in natural order; short_side: as of `ClipStore`."""
        self.name = Path("frames")
        self._files = sorted(files.items(), key=lambda item: natural_key(Path(item[0])))
        self._short_side = short_side

    def __enter__(self) -> Self:
        """Return the clip itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Do nothing."""

    def length(self, path: Path) -> int:
        """Number of frames."""
        return len(self._files)

    def frames(self, path: Path, numbers: Sequence[int]) -> list[Picture]:
        """Return the frames `numbers` as `ClipStore.frames` does."""
        try:
            pictures = [decode_picture(self._files[k][1], self._files[k][0]) for k in numbers]
        except PictureError as error:
            raise ClipError(str(error)) from error
        if len({picture.shape for picture in pictures}) > 1:
            raise ClipError(f"{path}: frames of different sizes; a clip has one size.")
        return [reduced(picture, self._short_side) for picture in pictures]


class HeldVideo:
    """A video file; use it as a context manager."""

    def __init__(self, name: str, data: bytes, short_side: int | None) -> None:
        """Open the file `data`, called `name`, and read its packets; short_side: as of `ClipStore`.

        Raises: ClipError if that is no video, or cut short.
        """
        self.name = Path(name)
        self._short_side = short_side
        self._matrix = y4m_matrix(data) if self.name.suffix == _Y4M else None
        self._file = VideoFile(self.name, 1, data)  # one thread: loaders work side by side already
        try:
            self._packets = list(self._file.packets())
            timeline = timeline_of(filter(shows_a_frame, self._packets))
            self._file.check_end(timeline)
        except BaseException:
            self._file.close()
            raise
        self._index = FrameIndex.of(timeline)

    def __enter__(self) -> Self:
        """Return the clip itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()

    def length(self, path: Path) -> int:
        """Number of frames."""
        return self._index.count

    def frames(self, path: Path, numbers: Sequence[int]) -> list[Picture]:
        """Return the frames `numbers` as `ClipStore.frames` does."""
        # not every key frame starts a sequence of its own
        start = self._index.start_for(numbers[0])
        return self._index.all_pictures(self.name, numbers, start, lambda first: self._decoded(first, numbers))

    def _decoded(self, start: int, numbers: Sequence[int]) -> dict[int, Picture]:
        place = 0
        if start:
            time = self._index.time(start)
            place = next(k for k, packet in enumerate(self._packets) if packet.pts == time)
        info: ClipInfo | None = None
        colours: Any = None

        def picture(frame: av.VideoFrame) -> Picture:
            nonlocal info, colours
            if info is None:
                info = describe(self.name, frame, Fraction(1), None, self._matrix)
                colours = Colours(info.matrix, info.full_range)
            return reduced(checked_picture(self.name, frame, info, colours), self._short_side)

        frames = self._file.frames(packets=self._packets[place:], since=self._index.time(numbers[0]))
        return self._index.pictures(numbers, frames, picture)


def held_clip(files: Mapping[str, bytes], short_side: int | None) -> HeldVideo | HeldFrames:
    """Open the clip of these files, by suffix: one video, or pictures."""
    ((suffix, data), *others) = files.items()
    if not others and f".{suffix}".endswith(VIDEO_SUFFIXES):
        return HeldVideo(f"clip.{suffix}", data, short_side)
    return HeldFrames(files, short_side)
