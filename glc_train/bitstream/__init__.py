"""Symbols to bytes and back: integer frequency tables, range coder and the .glc container. NumPy only, no networks."""

from glc_train.bitstream.coder import SymbolReader, SymbolWriter
from glc_train.bitstream.container import (
    MAX_PIXELS_PER_BYTE,
    MAX_SIDE,
    ContentCheck,
    ImageHeader,
    check_content,
    check_fingerprint,
    pack_image,
    unpack_image,
)
from glc_train.bitstream.errors import FormatError, WeightsMismatchError
from glc_train.bitstream.tables import PRECISION, SCALE_FRACTION_BITS, CategoricalTable, GaussianTables

__all__ = [
    "MAX_PIXELS_PER_BYTE",
    "MAX_SIDE",
    "PRECISION",
    "SCALE_FRACTION_BITS",
    "CategoricalTable",
    "ContentCheck",
    "FormatError",
    "GaussianTables",
    "ImageHeader",
    "SymbolReader",
    "SymbolWriter",
    "WeightsMismatchError",
    "check_content",
    "check_fingerprint",
    "pack_image",
    "unpack_image",
]
