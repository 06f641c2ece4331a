"""Random crops of the clips in shards, addressed by sample number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from glc_train.data.clip_cuts import ClipCuts
from glc_train.data.clip_held import held_clip
from glc_train.data.shards.index import Member
from glc_train.data.shards.reader import Files
from glc_train.data.shards.stream import ShardSource, ShardStream
from glc_train.data.source import sample_generator
from glc_train.media.clips import VIDEO_SUFFIXES
from glc_train.media.pictures import SUFFIXES, PathLike


class ShardClips(ShardSource):
    """Endless random crops of the clips in WebDataset shards (a `CropSource` of clips).

    A clip is a sample with one video file, or one with pictures, in natural order. All clips come once in each pass,
    in the order of `ShardCrops`; each use takes consecutive frames from a random place, cut and mirrored alike. A
    clip that is missing, damaged or too short is named once in the log and replaced by the next that can be used.
    """

    def __init__(
        self,
        root: PathLike,
        crop_size: int,
        seed: int,
        frames: int,
        strides: Sequence[int] = (1,),
        reverse: bool = False,
        flip: bool = True,
        scale_range: tuple[float, float] = (0.5, 1.0),
        scale_probability: float = 0.5,
        short_side: int | None = None,
        reading: dict[str, Any] | None = None,
    ) -> None:
        """Open the index.

        root: address of a folder with an index, of an index, of a shard, or a pattern of shards; see `ShardStream`.
        crop_size, frames, strides, reverse, flip, scale_range, scale_probability: see `ClipCuts`.
        short_side: frames are first reduced to this many pixels on the shorter side; None: not.
        reading: see `ShardReading`.
        Raises: ShardError, ValueError for numbers out of range.
        """
        self._cuts = ClipCuts(crop_size, frames, strides, reverse, flip, scale_range, scale_probability, short_side)
        self._short_side = short_side
        super().__init__(ShardStream(root, seed, _clip, reading), seed)

    def _cut(self, files: Files, index: int) -> Tensor:
        with held_clip(files, self._short_side) as clip:
            return self._cuts.cut(clip, clip.name, sample_generator(self.seed, "shard clip", index))


def _clip(members: Sequence[Member]) -> list[Member]:
    videos = [member for member in members if _ends(member.suffix, VIDEO_SUFFIXES)]
    return videos[:1] or [member for member in members if _ends(member.suffix, SUFFIXES)]


def _ends(suffix: str, kinds: Sequence[str]) -> bool:
    return f".{suffix}".endswith(tuple(kinds))
