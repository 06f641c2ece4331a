"""The LightningDataModule for clips: endless, resumable training batches and fixed validation clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from glc_train.data.clip_rendered import render_clip
from glc_train.data.clip_sources import find_clips
from glc_train.data.file_passes import first_readable
from glc_train.data.module import VAL_MULTIPLE, StreamDataModule, check_val_max_side, val_window
from glc_train.data.source import CropSource, SourceFactory
from glc_train.media.clip_info import ClipError
from glc_train.media.clips import open_clip
from glc_train.media.pictures import PathLike
from glc_train.pixels import to_signed

logger = logging.getLogger(__name__)

_RENDERED_SIDE = 256


class ValClip(NamedTuple):
    """One validation clip: x float32 (1, T, 3, H, W) in [-1, 1], H and W multiples of 64; and its file's name."""

    x: Tensor
    name: str


class ValClips(Dataset[ValClip]):
    """The first frames of clips on disk, centre-cropped to multiples of 64 and at most `max_side`."""

    def __init__(self, paths: Sequence[Path], frames: int, max_side: int) -> None:
        """Hold the files; they are read when asked for. A shorter clip is shown with the frames that it has."""
        self.paths = list(paths)
        self.frames = frames
        self.max_side = max_side

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.paths)

    def __getitem__(self, index: int) -> ValClip:
        """Return clip `index`. Raises: ClipError if it is unreadable or smaller than 64 pixels a side."""
        return self.read(self.paths[index])

    def read(self, path: Path) -> ValClip:
        """Return the clip of a file or folder. Raises: as above."""
        with open_clip(path) as clip:
            rows, columns = val_window(clip.info.height, clip.info.width, self.max_side)
            if rows.start == rows.stop or columns.start == columns.stop:
                raise ClipError(f"{path}: under {VAL_MULTIPLE} pixels a side; remove it from the validation clips.")
            frames = np.stack([frame[rows, columns] for frame in islice(clip, self.frames)])
        return ValClip(_signed(frames), path.name)


class RenderedValClips(Dataset[ValClip]):
    """Rendered clips for validation without files, never among the training ones; names rendered-0, rendered-1, ..."""

    def __init__(self, count: int, frames: int, max_side: int) -> None:
        """Render `count` clips of `frames` frames when asked for, square, of 256 pixels a side or `max_side`."""
        self.count = count
        self.frames = frames
        self.side = min(max_side, _RENDERED_SIDE) // VAL_MULTIPLE * VAL_MULTIPLE
        self._clips: dict[int, npt.NDArray[np.uint8]] = {}  # rendering takes about a second

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.count

    def __getitem__(self, index: int) -> ValClip:
        """Return clip `index`."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index not in self._clips:
            self._clips[index] = render_clip(self.side, self.side, self.frames, seed=index)
        return ValClip(_signed(self._clips[index]), f"rendered-{index}")


class ClipDataModule(StreamDataModule):
    """Training clips from any source, validation on fixed clips."""

    def __init__(
        self,
        train: SourceFactory,
        crop_size: int,
        batch_size: int,
        frames: int,
        val: PathLike | Sequence[PathLike] | None = None,
        val_clips: int = 4,
        val_frames: int = 8,
        val_max_side: int = 512,
        num_workers: int | None = None,
        prefetch: int = 2,
        seed: int = 0,
    ) -> None:
        """Keep the settings; files are looked for in `setup`.

        train: called with `crop_size`, `seed` and `frames`, returns a `CropSource` of clips.
        crop_size: side of the training crops in pixels. batch_size: clips a rank and step. frames: of a training clip.
        val: a folder, or a list of folders and files, as of `find_clips`; None takes rendered clips.
        val_clips: at most this many, the first by name of those that can be read.
        val_frames: at most this many of each, the first.
        val_max_side: pixels, at least 64.
        num_workers, prefetch: see `StreamDataModule`.
        Raises: ValueError for numbers out of range.
        """
        super().__init__(batch_size, num_workers, prefetch, seed)
        if min(crop_size, frames, val_clips, val_frames) < 1:
            raise ValueError(
                "crop_size, frames, val_clips and val_frames must be positive; got "
                f"{crop_size}, {frames}, {val_clips}, {val_frames}."
            )
        check_val_max_side(val_max_side)
        self.train = train
        self.val = val
        self.crop_size = crop_size
        self.frames = frames
        self.val_clips = val_clips
        self.val_frames = val_frames
        self.val_max_side = val_max_side

    def train_source(self) -> CropSource:
        """Build the source of training clips."""
        return self.train(crop_size=self.crop_size, seed=self.seed, frames=self.frames)

    def val_set(self) -> Dataset[ValClip]:
        """Find the validation clips; an item is a `ValClip`."""
        if self.val is None:
            return RenderedValClips(self.val_clips, self.val_frames, self.val_max_side)
        found = ValClips(find_clips(self.val), self.val_frames, self.val_max_side)
        readable = first_readable(found.paths, self.val_clips, found.read, ClipError, logger)
        return ValClips(readable, self.val_frames, self.val_max_side)


def _signed(frames: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (T, H, W, 3) -> float32 (1, T, 3, H, W) in [-1, 1]."""
    return to_signed(torch.from_numpy(frames).permute(0, 3, 1, 2)[None]).contiguous()
