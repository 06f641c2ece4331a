"""What refines the frames of a clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from glc_train.codecs.image import pad_to_multiple
from glc_train.codecs.protocol import Codec
from glc_train.pixels import picture_to_tensor
from glc_train.transform import FrameContext

if TYPE_CHECKING:
    from glc_train.codecs.video import VideoCodec
    from glc_train.effort import Refiner


def padded(codec: Codec, picture: np.ndarray) -> Tensor:
    """What an auto-encoder gets of a frame."""
    return pad_to_multiple(picture_to_tensor(picture, codec.device), codec.multiple)


class Refinement:
    """Refines frame after frame of one clip, at the quality `level` (1,) int64."""

    def __init__(self, codec: VideoCodec, level: Tensor, refiner: Refiner) -> None:
        from glc_train.effort import of_frame, of_picture  # with networks that files without effort do not need

        self._codec, self._level, self._refiner = codec, level, refiner.timed()
        self._of_frame, self._of_picture = of_frame, of_picture

    def __call__(self, x: Tensor, y: Tensor, z_hat: Tensor, given: FrameContext | None = None) -> Tensor:
        """Another y for the padded frame x; `given`: as of `RefineFrame`, None of an intra frame."""
        if given is None:
            target = self._of_picture(self._codec.image, x, y, z_hat, self._level)
        else:
            target = self._of_frame(self._codec, x, y, z_hat, given, self._level)
        return self._refiner.refine(target)
