"""A codec for tests: JPEG inside, with the report that a learned codec gives."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from glc_train.bitstream import WeightsMismatchError


@dataclass(frozen=True)
class FakeResult:
    data: bytes
    estimated_bits: float
    ideal_bits: float


class FakeCodec:
    quality_levels = 3

    def compress(self, picture: np.ndarray, quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=5 + 30 * quality)
        return file.getvalue()

    def decompress(self, data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class ReportingCodec(FakeCodec):
    def compress_with_report(self, picture: np.ndarray, quality: int) -> FakeResult:
        data = self.compress(picture, quality)
        return FakeResult(data, estimated_bits=8 * len(data) / 1.25, ideal_bits=8 * len(data) / 1.2)


class ShrinkingCodec(FakeCodec):
    def decompress(self, data: bytes) -> np.ndarray:
        return super().decompress(data)[:-1]


class DamagedCodec(FakeCodec):
    """Refuses large pictures."""

    def compress(self, picture: np.ndarray, quality: int) -> bytes:
        if len(picture) > 100:
            raise WeightsMismatchError("the weights are damaged")
        return super().compress(picture, quality)
