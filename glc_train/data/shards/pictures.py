"""Random crops of the pictures in shards, addressed by sample number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from glc_train.data.crops import RandomCrops, channels_first
from glc_train.data.shards.index import Member
from glc_train.data.shards.reader import Files
from glc_train.data.shards.stream import ShardSource, ShardStream
from glc_train.data.source import sample_generator
from glc_train.media.pictures import SUFFIXES, PathLike


class ShardCrops(ShardSource):
    """Endless random crops of the pictures in WebDataset shards (a `CropSource`).

    All pictures come once in each pass, shuffled over shards and within windows of them. Sample number i depends on
    (seed, i) and the shards alone, never on what was asked before. A picture smaller than the crop is enlarged; one
    that is missing, damaged or not the index's is named once in the log and replaced by the next that can be used.
    """

    def __init__(
        self,
        root: PathLike,
        crop_size: int,
        seed: int,
        flip: bool = True,
        scale_range: tuple[float, float] = (0.5, 1.0),
        scale_probability: float = 0.5,
        min_side: int = 0,
        reading: dict[str, Any] | None = None,
    ) -> None:
        """Open the index.

        root: address of a folder with an index, of an index, of a shard, or a pattern of shards; see `ShardStream`.
        crop_size: side of the crops in pixels.
        flip, scale_range, scale_probability, min_side: see `RandomCrops`.
        reading: see `ShardReading`.
        Raises: ShardError, ValueError for numbers out of range.
        """
        self._crops = RandomCrops(crop_size, flip, scale_range, scale_probability, min_side)
        super().__init__(ShardStream(root, seed, _picture, reading), seed)

    def _cut(self, files: Files, index: int) -> Tensor:
        ((suffix, data),) = files.items()
        crop = self._crops.cut_from(data, suffix, sample_generator(self.seed, "shard crop", index))
        return channels_first(crop)


def _picture(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if f".{member.suffix.rpartition('.')[2]}" in SUFFIXES][:1]
