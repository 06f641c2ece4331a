"""Samples cut from clips: consecutive frames from a random place, cropped and mirrored alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from glc_train.data.crops import RandomCrops, channels_first
from glc_train.media.clip_info import ClipError
from glc_train.media.pictures import Picture


class _Frames(Protocol):
    """What `ClipStore` offers."""

    def length(self, path: Path) -> int: ...

    def frames(self, path: Path, numbers: Sequence[int]) -> list[Picture]: ...


class ClipCuts:
    """Cuts samples of `frames` frames; a frame smaller than the crop is enlarged."""

    def __init__(
        self,
        crop_size: int,
        frames: int,
        strides: Sequence[int] = (1,),
        reverse: bool = False,
        flip: bool = True,
        scale_range: tuple[float, float] = (0.5, 1.0),
        scale_probability: float = 0.5,
        short_side: int | None = None,
    ) -> None:
        """Keep the settings.

        crop_size: side of the crops in pixels. frames: length of a sample.
        strides: one of these is drawn for each sample: 2 takes every other frame. Those too long for a clip are left
            out for it.
        reverse: play every other sample backwards.
        flip, scale_range, scale_probability: see `RandomCrops`; the same for all frames of a sample.
        short_side: to which the frames of the clips' `ClipStore` are reduced; `None`: not.
        Raises: ValueError for numbers out of range.
        """
        self._crops = RandomCrops(crop_size, flip, scale_range, scale_probability)
        if frames < 1 or not strides or min(strides) < 1:
            raise ValueError(f"frames and strides must be positive; got {frames}, {list(strides)}.")
        if short_side is not None and short_side < crop_size:
            raise ValueError(f"short_side must be at least the crop size, {crop_size}; got {short_side}.")
        self._frames = frames
        self._strides = tuple(strides)
        self._reverse = reverse

    def cut(self, store: _Frames, path: Path, random: np.random.Generator) -> Tensor:
        """Return a sample of the clip at `path`: uint8 (frames, 3, crop_size, crop_size).

        Raises: ClipError if the clip cannot be read, or is too short.
        """
        chosen, start, backwards = random.random(3)
        length = store.length(path)
        fitting = [stride for stride in self._strides if (self._frames - 1) * stride < length]
        if not fitting:
            raise ClipError(f"{path}: {length} frames, too few for samples of {self._frames}; remove the clip.")
        stride = fitting[int(chosen * len(fitting))]
        first = int(start * (length - (self._frames - 1) * stride))
        pictures = store.frames(path, range(first, first + (self._frames - 1) * stride + 1, stride))
        height, width = pictures[0].shape[:2]
        crop = self._crops.draw(height, width, random)
        if self._reverse and backwards < 0.5:
            pictures.reverse()
        return channels_first(np.stack([crop.cut(picture) for picture in pictures]))
