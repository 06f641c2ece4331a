"""The errors that the bitstream raises on data it cannot use."""

from __future__ import annotations


class FormatError(ValueError):
    """The bytes are not a usable .glc file: foreign, truncated, damaged, or of a kind or version not handled here."""


class WeightsMismatchError(FormatError):
    """The file was written with other network weights than the ones loaded."""
