"""The stations assembled: picture ⇄ file."""

from glc_train.codecs.image import (
    CompressResult,
    ImageCodec,
    ImageOutput,
    pad_to_multiple,
    picture_to_tensor,
    tensor_to_picture,
)
from glc_train.codecs.video import GOP, FrameOutput, FrameState, VideoCodec, expand_quality

__all__ = [
    "GOP",
    "CompressResult",
    "FrameOutput",
    "FrameState",
    "ImageCodec",
    "ImageOutput",
    "VideoCodec",
    "expand_quality",
    "pad_to_multiple",
    "picture_to_tensor",
    "tensor_to_picture",
]
