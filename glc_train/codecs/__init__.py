"""The stations assembled: picture ⇄ file."""

from glc_train.bitstream import ClipFormat
from glc_train.codecs.bit_account import BitAccount, accounting
from glc_train.codecs.gop import GOP, FrameState
from glc_train.codecs.image import (
    CompressResult,
    ImageCodec,
    ImageOutput,
    pad_to_multiple,
)
from glc_train.codecs.protocol import (
    ClipResult,
    Codec,
    DecodedFrame,
    FrameDecoder,
    FrameEncoder,
    FrameReport,
    Reconstruction,
    compress_clip,
    decompress_clip,
    shown_levels,
    spread_qualities,
)
from glc_train.codecs.video import FrameOutput, VideoCodec, expand_quality, expand_rdoq
from glc_train.codecs.video_stream import VideoDecoder, VideoEncoder
from glc_train.codecs.within import compress_within, largest_within

__all__ = [
    "GOP",
    "BitAccount",
    "ClipFormat",
    "ClipResult",
    "Codec",
    "CompressResult",
    "DecodedFrame",
    "FrameDecoder",
    "FrameEncoder",
    "FrameOutput",
    "FrameReport",
    "FrameState",
    "ImageCodec",
    "ImageOutput",
    "Reconstruction",
    "VideoCodec",
    "VideoDecoder",
    "VideoEncoder",
    "accounting",
    "compress_clip",
    "compress_within",
    "decompress_clip",
    "expand_quality",
    "expand_rdoq",
    "largest_within",
    "pad_to_multiple",
    "shown_levels",
    "spread_qualities",
]
