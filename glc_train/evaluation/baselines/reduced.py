"""Any baseline at a fraction of the size: what classical codecs need to reach the lowest rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from glc_train.evaluation.baselines.search import Baseline, Source
from glc_train.evaluation.codecs import Encoded
from glc_train.evaluation.results import EvaluationError
from glc_train.media.clip_info import ClipInfo

_MOST = 8


@dataclass(frozen=True)
class _Smaller:
    source: Source
    width: int
    height: int

    def pictures(self) -> Iterator[np.ndarray]:
        return (_resized(picture, self.width, self.height) for picture in self.source.pictures())

    def info(self) -> ClipInfo:
        return replace(self.source.info(), width=self.width, height=self.height)


class Reduced(Baseline):
    """A baseline that codes pictures with 1/`divisor` of their width and height and enlarges them, both by Lanczos.

    The smaller sides are even, which some encoders need. A last byte of the file, which counts, says how many columns
    and rows the enlarged picture has too many.

    Raises:
        EvaluationError: a divisor out of range.
    """

    def __init__(self, codec: Baseline, divisor: int) -> None:
        if not 2 <= divisor <= _MOST:
            raise EvaluationError(f"divisor={divisor}: give 2 to {_MOST}.")
        self.codec, self.divisor = codec, divisor
        self.suffix, self.settings, self.takes_clips = codec.suffix, codec.settings, codec.takes_clips

    def encode_at(self, source: Source, setting: object) -> tuple[bytes, Encoded]:
        """See `Baseline`."""
        info = source.info()
        width, height = (-(-side // (2 * self.divisor)) * 2 for side in (info.width, info.height))
        data, encoded = self.codec.encode_at(_Smaller(source, width, height), setting)
        excess = 2 * _MOST * (width * self.divisor - info.width) + height * self.divisor - info.height
        return data + bytes([excess]), encoded

    def decode_bytes(self, data: bytes) -> Iterator[np.ndarray]:
        """See `Baseline`."""
        columns, rows = divmod(data[-1], 2 * _MOST)
        for picture in self.codec.decode_bytes(data[:-1]):
            height, width = picture.shape[:2]
            yield _resized(picture, width * self.divisor - columns, height * self.divisor - rows)


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
