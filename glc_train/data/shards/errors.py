"""What can be wrong with shards."""

from __future__ import annotations


class ShardError(ValueError):
    """Shards or their index cannot be used; the message names the file and says what to do."""


class BadSampleError(ShardError):
    """One sample cannot be used, others can.

    Attributes:
        shard: the number of the shard, if the message is true of many of its samples; else `None`.
    """

    def __init__(self, message: str, shard: int | None = None) -> None:
        """Say `message` about a sample or, with its number, about a `shard`."""
        super().__init__(message)
        self.shard = shard
