"""Symbols to bytes and back: integer frequency tables, range coder and the .glc container. NumPy only, no networks."""

from glc_train.bitstream.adaptive import read_map, write_map
from glc_train.bitstream.coder import SymbolReader, SymbolWriter
from glc_train.bitstream.container import (
    ContentCheck,
    ImageHeader,
    check_content,
    check_fingerprint,
    pack_image,
    unpack_image,
)
from glc_train.bitstream.errors import FormatError, WeightsMismatchError
from glc_train.bitstream.fields import (
    KIND_IMAGE,
    KIND_VIDEO,
    MAX_PIXELS,
    MAX_PIXELS_PER_BYTE,
    MAX_SIDE,
    check_pixels,
    kind_of,
)
from glc_train.bitstream.tables import PRECISION, SCALE_FRACTION_BITS, CategoricalTable, GaussianTables
from glc_train.bitstream.video_container import IMPLIED, MATRICES, ClipFormat, Matrix, VideoHeader, VideoWriter
from glc_train.bitstream.video_reader import Damage, FrameKind, VideoReader, VideoRecord, read_header, read_pipe_header

__all__ = [
    "IMPLIED",
    "KIND_IMAGE",
    "KIND_VIDEO",
    "MATRICES",
    "MAX_PIXELS",
    "MAX_PIXELS_PER_BYTE",
    "MAX_SIDE",
    "PRECISION",
    "SCALE_FRACTION_BITS",
    "CategoricalTable",
    "ClipFormat",
    "ContentCheck",
    "Damage",
    "FormatError",
    "FrameKind",
    "GaussianTables",
    "ImageHeader",
    "Matrix",
    "SymbolReader",
    "SymbolWriter",
    "VideoHeader",
    "VideoReader",
    "VideoRecord",
    "VideoWriter",
    "WeightsMismatchError",
    "check_content",
    "check_fingerprint",
    "check_pixels",
    "kind_of",
    "pack_image",
    "read_header",
    "read_map",
    "read_pipe_header",
    "unpack_image",
    "write_map",
]
