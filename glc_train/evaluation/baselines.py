"""JPEG, WebP and AVIF through Pillow, measured by the same code as the learned codecs."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, features

from glc_train.evaluation.results import EvaluationError

# Format -> the options that spend the fewest bits, and the range of its quality setting.
BASELINE_FORMATS: dict[str, tuple[dict[str, object], range]] = {
    "jpeg": ({"optimize": True, "progressive": True, "subsampling": "4:2:0"}, range(1, 96)),
    "webp": ({"method": 6}, range(0, 101)),
    "avif": ({"speed": 6, "subsampling": "4:2:0"}, range(0, 101)),
}


class PillowBaseline:
    """A conventional codec whose "qualities" are rates to aim at, or settings of the format.

    Args:
        format: one of ``BASELINE_FORMATS``.
        targets: bits per pixel, one for each quality: each picture takes the highest setting whose file does not exceed
            the target, or the lowest setting there is. No picture is made smaller, so the rate may stay above.
        settings: the format's own quality settings instead, one for each quality.

    Raises:
        EvaluationError: an unknown format, one that this Pillow lacks, or not exactly one of targets and settings.
    """

    def __init__(
        self, format: str, targets: Sequence[float] | None = None, settings: Sequence[int] | None = None
    ) -> None:
        if format not in BASELINE_FORMATS:
            raise EvaluationError(f"There is no baseline {format!r}: choose among {', '.join(BASELINE_FORMATS)}.")
        if format != "jpeg" and not features.check(format):
            raise EvaluationError(f"This Pillow was built without {format}: install a newer one, or leave it out.")
        if (targets is None) == (settings is None):
            raise EvaluationError(f"The baseline {format} takes either rates to aim at or quality settings.")
        self.format = format
        self.suffix = f".{format}"
        self._options, self._range = BASELINE_FORMATS[format]
        self._targets, self._settings = targets, settings
        outside = [setting for setting in settings or () if setting not in self._range]
        if outside:
            raise EvaluationError(f"{format} has no quality {outside[0]}: give {self._range[0]} to {self._range[-1]}.")

    @property
    def quality_levels(self) -> int:
        """Number of targets or settings."""
        return len(self._targets if self._targets is not None else self._settings or ())

    def compress(self, picture: np.ndarray, quality: int) -> bytes:
        """Compress an (H, W, 3) uint8 RGB picture at target or setting number ``quality``."""
        image = Image.fromarray(picture)
        if self._settings is not None:
            return self._encode(image, self._settings[quality])
        assert self._targets is not None
        budget = self._targets[quality] * picture.shape[0] * picture.shape[1] / 8
        low, high = 0, len(self._range) - 1
        best = self._encode(image, self._range[0])
        while low < high:  # the file grows with the setting, but for ripples
            middle = (low + high + 1) // 2
            data = self._encode(image, self._range[middle])
            if len(data) <= budget:
                low, best = middle, data
            else:
                high = middle - 1
        return best

    def decompress(self, data: bytes) -> np.ndarray:
        """Return the (H, W, 3) uint8 RGB picture."""
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def _encode(self, image: Image.Image, setting: int) -> bytes:
        file = io.BytesIO()
        image.save(file, self.format.upper(), quality=setting, **self._options)
        return file.getvalue()
