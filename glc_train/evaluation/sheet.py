"""One picture by our codec and by others at the same bytes, side by side on a sheet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from glc_train.backbones import BackboneError, find_backbone
from glc_train.codec_groups import SIZES, baseline_sections
from glc_train.codecs import ImageCodec
from glc_train.data import write_panel
from glc_train.evaluation.baselines import load_baseline
from glc_train.evaluation.results import CODEC, EvaluationError
from glc_train.metrics import LPIPS, PictureMetrics, psnr

CONTENDERS = ("avif", "vvc", "heic", "jxl", "webp", "jpeg2000", "jpeg")
_SHOWN = 4  # of them
_CELL_WIDTH = 512
_COLUMNS = 3


@dataclass(frozen=True)
class Coded:
    """A picture by one codec: its name, the bytes, what they decode to (uint8 (H, W, 3)), PSNR and LPIPS if known."""

    codec: str
    bytes: int
    picture: np.ndarray
    psnr: float
    lpips: float | None

    @property
    def rank(self) -> float:
        """Less is better."""
        return -self.psnr if self.lpips is None else self.lpips

    @property
    def caption(self) -> str:
        """What stands below it."""
        height, width = self.picture.shape[:2]
        score = f"PSNR {self.psnr:.2f}" if self.lpips is None else f"LPIPS {self.lpips:.3f}"
        return f"{self.codec}: {self.bytes:,} bytes, {8 * self.bytes / (height * width):.4f} bpp, {score}"


def compare_on_sheet(
    picture: np.ndarray,
    codec: ImageCodec,
    out: Path,
    *,
    quality: int | None = None,
    budget: int | None = None,
    contenders: Sequence[str] = CONTENDERS,
) -> tuple[list[Coded], list[str]]:
    """Codes the picture with the codec, then with the others in no more bytes, and writes the sheet.

    Args:
        picture: uint8 (H, W, 3).
        codec: ours.
        out: the sheet, a picture file.
        quality: of ours; None: the best within `budget` bytes, or the middle one without a budget.
        budget: bytes that all may have; None: as many as ours takes.
        contenders: codecs of the table, each tried at full, half and quarter size.

    Returns:
        Ours, then the others from the best to the worst, by LPIPS, or by PSNR where its weights are not at hand; and
        why some are missing.

    Raises:
        EvaluationError: `quality` is out of range, ours does not fit in the budget, or there is no such contender.
    """
    known = baseline_sections()
    for name in contenders:
        if f"{name}_half" not in known:
            raise EvaluationError(f"{name}: there is no such codec; choose among {', '.join(CONTENDERS)}.")
    ours = judged(picture, CODEC, *_ours(codec, picture, quality, budget))
    limit = ours.bytes if budget is None else budget
    others, missing = [], []
    for name in contenders:
        try:
            others.append(best_within(name, picture, limit))
        except EvaluationError as error:
            missing.append(str(error))
    others.sort(key=lambda each: each.rank)
    cells = [(picture, "original")] + [(each.picture, each.caption) for each in [ours, *others[:_SHOWN]]]
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    write_panel(out, rows, cell_width=_CELL_WIDTH)
    return [ours, *others], missing


def _ours(codec: ImageCodec, picture: np.ndarray, quality: int | None, budget: int | None) -> tuple[bytes, np.ndarray]:
    levels = codec.quality_levels
    if quality is not None and not 0 <= quality < levels:
        raise EvaluationError(f"quality {quality}: give 0 to {levels - 1}.")
    if quality is not None or budget is None:
        data = codec.compress(picture, levels // 2 if quality is None else quality)
    else:
        files = [codec.compress(picture, level) for level in range(levels)]
        fitting = [file for file in files if len(file) <= budget]
        if not fitting:
            raise EvaluationError(
                f"The smallest file of this picture has {len(files[0])} bytes: give at least as many."
            )
        data = fitting[-1]
    return data, codec.decompress(data)


def best_within(name: str, picture: np.ndarray, limit: int) -> Coded:
    """The best that a codec of the table, at full, half or quarter size, makes of a picture in `limit` bytes.

    Raises:
        EvaluationError: no file of it is so small, or its package is missing.
    """
    sizes = [judged(picture, *each) for each in _at_sizes(name, picture, limit)]
    if not sizes:
        raise EvaluationError(f"{name} has no file of {limit} bytes or less.")
    return min(sizes, key=lambda each: each.rank)


def _at_sizes(name: str, picture: np.ndarray, limit: int) -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Name, best file and what it decodes to, at each size that can be so small."""
    for size in SIZES:
        baseline = load_baseline(name + size)
        data = baseline.compress(picture, limit)
        if len(data) <= limit:
            yield name + size, data, baseline.decompress(data)


def judged(original: np.ndarray, name: str, data: bytes, decoded: np.ndarray) -> Coded:
    """A picture uint8 (H, W, 3) by the codec `name`: `data` is its file, `decoded` what that decodes to."""
    scores = _measures().measure(original, decoded)
    return Coded(name, len(data), decoded, scores["psnr"] or 0.0, scores.get("lpips"))


@cache
def _measures() -> PictureMetrics:
    metrics: dict[str, Any] = {"psnr": psnr}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            find_backbone("alexnet", download=False)
            metrics["lpips"] = LPIPS()
        except BackboneError:
            pass
    return PictureMetrics(metrics, "cpu")
