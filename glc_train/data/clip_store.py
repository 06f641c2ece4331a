"""Any frames of many clips: found by number, decoded from the key frame before, kept as far as memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av

from glc_train.data.crops import reduced, reduced_size
from glc_train.data.file_passes import DecodedCache
from glc_train.data.frame_index import FrameIndex
from glc_train.media.clip_colour import Colours
from glc_train.media.clip_info import ClipError, ClipInfo
from glc_train.media.clips import frame_files, open_clip, read_frame
from glc_train.media.pictures import Picture
from glc_train.media.timeline import shows_a_frame, timeline_of
from glc_train.media.video_file import VideoFile, checked_picture


@dataclass(frozen=True)
class _FolderIndex:
    files: list[Path]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class _Video:
    info: ClipInfo
    index: FrameIndex

    def __len__(self) -> int:
        return self.index.count


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
        self._indices: dict[Path, _FolderIndex | _Video | ClipError] = {}
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

    def _index(self, path: Path) -> _FolderIndex | _Video:
        if path not in self._indices:
            try:
                self._indices[path] = _FolderIndex(frame_files(path).files) if path.is_dir() else _video(path)
            except ClipError as error:
                self._indices[path] = error
        index = self._indices[path]
        if isinstance(index, ClipError):
            raise ClipError(str(index))
        return index

    def _folder_frame(self, file: Path) -> Picture:
        kept = self._cache.get(file)
        if kept is None:
            kept = [reduced(read_frame(file), self._short_side)]
            self._cache.offer(file, kept, kept[0].nbytes)
        return kept[0]

    def _video_frames(self, path: Path, video: _Video, numbers: Sequence[int]) -> list[Picture]:
        index = video.index
        segments = sorted({index.segment(number) for number in numbers})
        self._keep(path, video, [segment for segment in segments if self._cache.get((path, segment)) is None])
        rest = [number for number in numbers if self._cache.get((path, index.segment(number))) is None]
        decoded = dict(zip(rest, self._decoded(path, video, rest), strict=True)) if rest else {}
        pictures = []
        for number in numbers:
            segment = index.segment(number)
            kept = self._cache.get((path, segment))
            pictures.append(decoded[number] if kept is None else kept[number - index.numbers_of(segment).start])
        return pictures

    def _keep(self, path: Path, video: _Video, segments: list[int]) -> None:
        """Decode whole segments into the cache, if they fit."""
        whole = [number for segment in segments for number in video.index.numbers_of(segment)]
        frame_size = 3 * math.prod(reduced_size(video.info.height, video.info.width, self._short_side))
        if not whole or not self._cache.fits(len(whole) * frame_size):
            return
        try:
            pictures = iter(self._decoded(path, video, whole))
        except ClipError:  # what is damaged may lie beside the frames asked for
            return
        for segment in segments:
            length = len(video.index.numbers_of(segment))
            self._cache.offer((path, segment), list(islice(pictures, length)), length * frame_size)

    def _decoded(self, path: Path, video: _Video, numbers: Sequence[int]) -> list[Picture]:
        start = video.index.start_for(numbers[0])
        # seeking is not exact in every format
        return video.index.all_pictures(
            path, numbers, start, lambda first: self._decoded_from(first, path, video, numbers)
        )

    def _decoded_from(self, start: int, path: Path, video: _Video, numbers: Sequence[int]) -> dict[int, Picture]:
        colours = Colours(video.info.matrix, video.info.full_range)

        def picture(frame: av.VideoFrame) -> Picture:
            return reduced(checked_picture(path, frame, video.info, colours), self._short_side)

        # one thread: loaders work side by side already
        with VideoFile(path, threads=1) as file:
            if start:
                file.seek(int(video.index.times[start]))
            return video.index.pictures(numbers, file.frames(since=video.index.time(numbers[0])), picture)


def _video(path: Path) -> _Video:
    with open_clip(path) as reader:
        info = reader.info
    with VideoFile(path, threads=1) as file:
        timeline = timeline_of(filter(shows_a_frame, file.packets()))
    return _Video(info, FrameIndex.of(timeline))
