"""Any frames of many clips: found by number, decoded from the key frame before, kept as far as memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from glc_train.data.file_passes import DecodedCache
from glc_train.media.clip_colour import Colours
from glc_train.media.clip_info import ClipError, ClipInfo
from glc_train.media.clips import frame_files, open_clip, read_frame
from glc_train.media.pictures import Picture
from glc_train.media.timeline import timeline_of
from glc_train.media.video_file import VideoFile, checked_picture


@dataclass(frozen=True)
class _FolderIndex:
    files: list[Path]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class _VideoIndex:
    """times: of the frames in order of display, in units of the stream; empty if the file has none.

    starts: numbers of the frames that decoding can start from, the first 0.
    """

    info: ClipInfo
    times: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    count: int

    def __len__(self) -> int:
        return self.count

    def segment(self, number: int) -> int:
        """Which start lies at or before frame `number`."""
        return int(np.searchsorted(self.starts, number, side="right")) - 1

    def numbers_of(self, segment: int) -> range:
        """Frames from a start to the next."""
        end = self.starts[segment + 1] if segment + 1 < len(self.starts) else self.count
        return range(int(self.starts[segment]), int(end))

    def number_of(self, time: int | None, count: int) -> int:
        """Number of the frame shown at `time`, -1 if there is none; `count`, decoded since the start, without times."""
        if not len(self.times):
            return count
        number = -1 if time is None else int(np.searchsorted(self.times, time))
        return number if 0 <= number < self.count and self.times[number] == time else -1


class ClipStore:
    """Frames of video files and of folders of frames, by number; a pure function of the files.

    A video is read through once without decoding, for its key frames. What lies between two of them is decoded and
    kept at once where it fits; else no more is decoded than what is asked for needs.
    """

    def __init__(self, short_side: int | None, cache_mb: float) -> None:
        """Hold no clip yet.

        short_side: larger frames are reduced (bicubic, antialiased) to this many pixels on the shorter side.
        cache_mb: MiB of frames kept.
        """
        self._short_side = short_side
        self._indices: dict[Path, _FolderIndex | _VideoIndex | ClipError] = {}
        self._cache: DecodedCache[list[Picture]] = DecodedCache(cache_mb)

    def length(self, path: Path) -> int:
        """Number of frames of the clip. Raises: ClipError if it cannot be read."""
        return len(self._index(path))

    def frames(self, path: Path, numbers: Sequence[int]) -> list[Picture]:
        """Return the frames `numbers`, rising, each 0 to length - 1, as uint8 RGB (H, W, 3), all of one size.

        Raises: ClipError if one of them cannot be decoded.
        """
        index = self._index(path)
        if isinstance(index, _FolderIndex):
            pictures = [self._folder_frame(index.files[number]) for number in numbers]
        else:
            pictures = self._video_frames(path, index, numbers)
        if len({picture.shape for picture in pictures}) > 1:
            raise ClipError(f"{path}: frames of different sizes; a folder holds one clip of one size.")
        return pictures

    def _index(self, path: Path) -> _FolderIndex | _VideoIndex:
        if path not in self._indices:
            try:
                self._indices[path] = _FolderIndex(frame_files(path).files) if path.is_dir() else _video_index(path)
            except ClipError as error:
                self._indices[path] = error
        index = self._indices[path]
        if isinstance(index, ClipError):
            raise ClipError(str(index))
        return index

    def _folder_frame(self, file: Path) -> Picture:
        kept = self._cache.get(file)
        if kept is None:
            kept = [self._reduced(read_frame(file))]
            self._cache.offer(file, kept, kept[0].nbytes)
        return kept[0]

    def _video_frames(self, path: Path, index: _VideoIndex, numbers: Sequence[int]) -> list[Picture]:
        segments = sorted({index.segment(number) for number in numbers})
        self._keep(path, index, [segment for segment in segments if self._cache.get((path, segment)) is None])
        rest = [number for number in numbers if self._cache.get((path, index.segment(number))) is None]
        decoded = dict(zip(rest, self._decoded(path, index, rest), strict=True)) if rest else {}
        pictures = []
        for number in numbers:
            segment = index.segment(number)
            kept = self._cache.get((path, segment))
            pictures.append(decoded[number] if kept is None else kept[number - index.numbers_of(segment).start])
        return pictures

    def _keep(self, path: Path, index: _VideoIndex, segments: list[int]) -> None:
        """Decode whole segments into the cache, if they fit."""
        whole = [number for segment in segments for number in index.numbers_of(segment)]
        frame_size = 3 * math.prod(self._reduced_size(index.info.height, index.info.width))
        if not whole or not self._cache.fits(len(whole) * frame_size):
            return
        try:
            pictures = iter(self._decoded(path, index, whole))
        except ClipError:  # what is damaged may lie beside the frames asked for
            return
        for segment in segments:
            length = len(index.numbers_of(segment))
            self._cache.offer((path, segment), list(islice(pictures, length)), length * frame_size)

    def _decoded(self, path: Path, index: _VideoIndex, numbers: Sequence[int]) -> list[Picture]:
        start = index.numbers_of(index.segment(numbers[0])).start
        pictures: dict[int, Picture] = {}
        try:
            pictures = self._decoded_from(start, path, index, numbers)
        except ClipError:
            if not start:
                raise
        if start and len(pictures) < len(numbers):  # seeking is not exact in every format
            pictures = self._decoded_from(0, path, index, numbers)
        if len(pictures) < len(numbers):
            missing = min(set(numbers) - pictures.keys())
            raise ClipError(f"{path}: frame {missing} of {index.count} cannot be decoded; re-encode the file.")
        return [pictures[number] for number in numbers]

    def _decoded_from(self, start: int, path: Path, index: _VideoIndex, numbers: Sequence[int]) -> dict[int, Picture]:
        colours = Colours(index.info.matrix, index.info.full_range)
        wanted, pictures = set(numbers), {}
        # one thread: loaders work side by side already
        with VideoFile(path, threads=1) as file:
            if start:
                file.seek(int(index.times[start]))
            for count, frame in enumerate(file.frames()):
                number = index.number_of(frame.pts, count)
                if number in wanted:
                    pictures[number] = self._reduced(checked_picture(path, frame, index.info, colours))
                if number >= numbers[-1]:
                    break
        return pictures

    def _reduced(self, picture: Picture) -> Picture:
        height, width = self._reduced_size(*picture.shape[:2])
        if (height, width) == picture.shape[:2]:
            return picture
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))

    def _reduced_size(self, height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        if self._short_side is None or short <= self._short_side:
            return height, width
        return round(height * self._short_side / short), round(width * self._short_side / short)


def _video_index(path: Path) -> _VideoIndex:
    with open_clip(path) as reader:
        info = reader.info
    with VideoFile(path, threads=1) as file:
        timeline = timeline_of(file.packets())
    starts = np.flatnonzero(timeline.keys)
    if not len(starts):  # no times to seek by (raw H.264): frames are counted from the start
        return _VideoIndex(info, np.empty(0, np.int64), np.zeros(1, np.int64), timeline.count)
    # what is shown before the first key frame cannot be decoded
    return _VideoIndex(info, timeline.times[starts[0] :], starts - starts[0], timeline.count - int(starts[0]))
