"""Numbers of a video's frames: which are asked for, where decoding starts for them, and the pictures found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import av
import numpy as np
import numpy.typing as npt

from glc_train.media.clip_info import ClipError
from glc_train.media.pictures import Picture
from glc_train.media.timeline import Timeline


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video that can be decoded.

    Attributes:
        times: of the frames in order of display, in units of the stream; empty if the file has none.
        starts: numbers of the frames that decoding can start from, the first 0.
        count: of the frames.
    """

    times: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, timeline: Timeline) -> Self:
        """Number the frames from the first key frame on."""
        starts = np.flatnonzero(timeline.keys)
        if not len(starts):  # no times to seek by (raw H.264): frames are counted from the start
            return cls(np.empty(0, np.int64), np.zeros(1, np.int64), timeline.count)
        # what is shown before the first key frame cannot be decoded
        return cls(timeline.times[starts[0] :], starts - starts[0], timeline.count - int(starts[0]))

    def segment(self, number: int) -> int:
        """Which start lies at or before frame `number`."""
        return int(np.searchsorted(self.starts, number, side="right")) - 1

    def numbers_of(self, segment: int) -> range:
        """Frames from a start to the next."""
        end = self.starts[segment + 1] if segment + 1 < len(self.starts) else self.count
        return range(int(self.starts[segment]), int(end))

    def start_for(self, number: int) -> int:
        """Number of the frame that decoding starts from to come to frame `number`."""
        return int(self.starts[self.segment(number)])

    def time(self, number: int) -> int | None:
        """When frame `number` is shown; `None` if the file has no times."""
        return int(self.times[number]) if len(self.times) else None

    def pictures(
        self, numbers: Sequence[int], frames: Iterable[av.VideoFrame], picture: Callable[[av.VideoFrame], Picture]
    ) -> dict[int, Picture]:
        """Return `picture(frame)` of those `frames`, in order of display, that have one of the rising `numbers`."""
        wanted, found = set(numbers), {}
        for count, frame in enumerate(frames):
            number = self._number_of(frame.pts, count)
            if number in wanted:
                found[number] = picture(frame)
            if number >= numbers[-1]:
                break
        return found

    def all_pictures(
        self, path: Path, numbers: Sequence[int], start: int, decoded_from: Callable[[int], dict[int, Picture]]
    ) -> list[Picture]:
        """Return what `decoded_from(start)` finds for the `numbers`; what is missing then, from frame 0 on.

        path: of the clip, for messages. Raises: ClipError if one of them cannot be decoded.
        """
        pictures: dict[int, Picture] = {}
        try:
            pictures = decoded_from(start)
        except ClipError:
            if not start:
                raise
        if start and len(pictures) < len(numbers):
            pictures = decoded_from(0)
        if len(pictures) < len(numbers):
            missing = min(set(numbers) - pictures.keys())
            raise ClipError(f"{path}: frame {missing} of {self.count} cannot be decoded; re-encode the file.")
        return [pictures[number] for number in numbers]

    def _number_of(self, time: int | None, count: int) -> int:
        """Number of the frame shown at `time`, -1 if there is none; `count`, decoded since the start, without times."""
        if not len(self.times):
            return count
        number = -1 if time is None else int(np.searchsorted(self.times, time))
        return number if 0 <= number < self.count and self.times[number] == time else -1
