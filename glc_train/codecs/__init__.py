"""The stations assembled: picture ⇄ file."""

from glc_train.bitstream import ClipFormat
from glc_train.codecs.image import (
    CompressResult,
    ImageCodec,
    ImageOutput,
    pad_to_multiple,
    picture_to_tensor,
    tensor_to_picture,
)
from glc_train.codecs.video import GOP, FrameOutput, FrameState, VideoCodec, expand_quality, expand_rdoq
from glc_train.codecs.video_stream import (
    ClipResult,
    DecodedFrame,
    FrameReport,
    VideoDecoder,
    VideoEncoder,
    compress_clip,
    decompress_clip,
)

__all__ = [
    "GOP",
    "ClipFormat",
    "ClipResult",
    "CompressResult",
    "DecodedFrame",
    "FrameOutput",
    "FrameReport",
    "FrameState",
    "ImageCodec",
    "ImageOutput",
    "VideoCodec",
    "VideoDecoder",
    "VideoEncoder",
    "compress_clip",
    "decompress_clip",
    "expand_quality",
    "expand_rdoq",
    "pad_to_multiple",
    "picture_to_tensor",
    "tensor_to_picture",
]
