"""Codecs of single pictures: what Pillow writes and reads, by itself or through a plug-in."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from glc_train.evaluation.baselines.packages import needed
from glc_train.evaluation.baselines.search import Baseline, Source
from glc_train.evaluation.codecs import Encoded, EncodedFrame
from glc_train.evaluation.results import EvaluationError


class PillowCodec(Baseline):
    """A picture format of Pillow's. All bytes of its files count.

    Args:
        format: as Pillow calls it.
        suffix: of its files, with the dot.
        settings: values of the option `setting`, from the fewest bits to the most.
        options: of Pillow's `save`, the same for all.
        setting: option that is searched.
        plugin: module that adds the format to Pillow when it is imported; `package` is what it comes in.

    Raises:
        EvaluationError: the plug-in is missing, or this Pillow does not write the format.
    """

    takes_clips = False

    def __init__(
        self,
        format: str,
        suffix: str,
        settings: Sequence[Any],
        options: Mapping[str, Any] | None = None,
        setting: str = "quality",
        plugin: str | None = None,
        package: str | None = None,
    ) -> None:
        if plugin is not None:
            needed(plugin, package or plugin, format)
        Image.init()
        if format not in Image.SAVE:
            raise EvaluationError(f"This Pillow does not write {format}: install another one, or leave this codec out.")
        self.format, self.suffix, self.settings = format, suffix, settings
        self.options, self.setting = dict(options or {}), setting

    def encode_at(self, source: Source, setting: Any) -> tuple[bytes, Encoded]:
        """See `Baseline`."""
        (picture,) = source.pictures()
        file = io.BytesIO()
        start = time.perf_counter()
        value = [setting] if self.setting == "quality_layers" else setting  # of JPEG 2000
        try:
            Image.fromarray(picture).save(file, self.format, **{self.setting: value}, **self.options)
        except (OSError, RuntimeError, ValueError) as error:  # such as more pixels than the format has room for
            size = f"{picture.shape[1]}×{picture.shape[0]}"
            raise EvaluationError(f"Pillow cannot write {size} pixels as {self.format}: {error}") from error
        seconds = time.perf_counter() - start
        return file.getvalue(), Encoded((EncodedFrame("intra", file.tell()),), seconds)

    def decode_bytes(self, data: bytes) -> Iterator[np.ndarray]:
        """See `Baseline`."""
        with Image.open(io.BytesIO(data)) as image:
            yield np.asarray(image.convert("RGB"))
