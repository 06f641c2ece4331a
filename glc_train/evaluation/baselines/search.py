"""What all classical codecs share: the best of a codec's settings within some bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from glc_train.evaluation.codecs import Encoded
from glc_train.evaluation.results import EvaluationError
from glc_train.files import write_bytes
from glc_train.media.clip_info import DEFAULT_FPS, ClipInfo


class Source(Protocol):
    """What is coded: an `Item`, or pictures made from one."""

    def pictures(self) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3), from the first at each call."""
        ...

    def info(self) -> ClipInfo:
        """Their size and rate."""
        ...


@dataclass(frozen=True, eq=False)
class Single:
    """One picture uint8 (H, W, 3) as a `Source`."""

    picture: np.ndarray

    def pictures(self) -> Iterator[np.ndarray]:
        """The picture."""
        yield self.picture

    def info(self) -> ClipInfo:
        """Its size; the frame rate means nothing."""
        height, width = self.picture.shape[:2]
        return ClipInfo(width, height, DEFAULT_FPS, "bt709", False, 1)


class Baseline(ABC):
    """A codec with a range of settings: a `FileCodec` whose `level` is the bytes that a file may have.

    Each setting is tried once for all the rates of an item; the seconds are those of the encoding that is kept.

    Attributes:
        suffix: of its files, with the dot.
        settings: from the fewest bits to the most.
        takes_clips: whether it codes clips; else single pictures only.
    """

    suffix: str
    settings: Sequence[Any]
    takes_clips: bool = True
    _source: Source | None = None

    @abstractmethod
    def encode_at(self, source: Source, setting: Any) -> tuple[bytes, Encoded]:
        """The file, and its frames. Raises EvaluationError where the codec fails."""

    @abstractmethod
    def decode_bytes(self, data: bytes) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3) of a file."""

    def encode(self, item: Source, level: int, path: Path) -> Encoded:
        """See `FileCodec`. The smallest file may have more than `level` bytes: no setting makes it smaller."""
        data, encoded = self._within(item, level)
        write_bytes(path, data)
        return encoded

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See `FileCodec`."""
        return self.decode_bytes(path.read_bytes())

    def compress(self, picture: np.ndarray, level: int) -> bytes:
        """The best file of a picture uint8 (H, W, 3) in at most `level` bytes, or the smallest."""
        return self._within(Single(picture), level)[0]

    def decompress(self, data: bytes) -> np.ndarray:
        """The picture uint8 (H, W, 3) of a file."""
        return next(self.decode_bytes(data))

    def _within(self, source: Source, budget: int) -> tuple[bytes, Encoded]:
        low, high = 0, len(self.settings) - 1
        while low < high:  # the file grows with the setting, but for ripples
            middle = (low + high + 1) // 2
            if len(self._made(source, middle)[0]) <= budget:
                low = middle
            else:
                high = middle - 1
        return self._made(source, low)

    def _made(self, source: Source, number: int) -> tuple[bytes, Encoded]:
        if self._source != source:
            self._source, self._known = source, dict[int, tuple[bytes, Encoded]]()
        if number not in self._known:
            self._known[number] = self.encode_at(source, self.settings[number])
        return self._known[number]


class AtSettings:
    """A baseline as a `FileCodec` whose `level` is one of its settings."""

    def __init__(self, codec: Baseline) -> None:
        self.codec, self.suffix, self.takes_clips = codec, codec.suffix, codec.takes_clips
        self.decode = codec.decode

    def encode(self, item: Source, level: int, path: Path) -> Encoded:
        """See `FileCodec`. Raises EvaluationError where there is no such setting."""
        if level not in self.codec.settings:
            first, last = self.codec.settings[0], self.codec.settings[-1]
            raise EvaluationError(f"it has no setting {level}: give those from {first} to {last}, or rates=.")
        data, encoded = self.codec.encode_at(item, level)
        write_bytes(path, data)
        return encoded
