"""The error of all that prepares public data sets."""

from __future__ import annotations


class DataSetError(ValueError):
    """A data set cannot be prepared or is not whole; the message says what is wrong and what to do."""
