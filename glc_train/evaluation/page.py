"""The page of an evaluation, and the originals beside its results that the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from glc_train.evaluation.curves import RATES, Curve
from glc_train.evaluation.details import LOOKED_AT_CRF, ORIGINALS
from glc_train.evaluation.sets import Item
from glc_train.files import replacing
from glc_train.media import write_clip
from glc_train.metrics import TITLES
from glc_train.report import write_page

PAGE = "report.html"
_QUALITY = 92  # of pictures to look at
_LARGEST_SIDE = 16383  # of a WebP picture


def write_originals(out: Path, items: Sequence[Item]) -> None:
    """Write what was coded to `out/originals`, nearly without loss, for the page; what is there already stays."""
    for item in items:
        path = out / ORIGINALS / f"{item.name}{'.webp' if item.still else '.mp4'}"
        if path.exists():
            continue
        if not item.still:
            with write_clip(path, item.info(), crf=LOOKED_AT_CRF) as clip:
                for picture in item.pictures():
                    clip.write(picture)
            continue
        image = Image.fromarray(next(item.pictures()))
        image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        with replacing(path) as temporary:
            image.save(temporary, "WEBP", quality=_QUALITY)


def write_report_page(path: Path, results: Sequence[str | Path], published: Sequence[Curve], **options: Any) -> Path:
    """`write_page` with the metrics that are known, and published curves."""
    curves = [{"name": each.name, "points": list(each.points), "note": _about(each)} for each in published]
    return write_page(path, results, TITLES, curves, **options)


def _about(curve: Curve) -> str:
    return " ".join(part for part in (f"Rate: {RATES[curve.rate]}.", curve.note, curve.source) if part)
