"""The page of an evaluation, and the originals beside its results that the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from glc_train.evaluation.curves import RATES, Curve, comparable, curve_of_means
from glc_train.evaluation.details import LOOKED_AT_CRF, ORIGINALS
from glc_train.evaluation.plots import write_picture_grid
from glc_train.evaluation.results import CodecResults
from glc_train.files import replacing
from glc_train.media import write_clip
from glc_train.metrics import TITLES
from glc_train.report import load_run, write_page

if TYPE_CHECKING:
    from glc_train.evaluation.sets import Item

PAGE = "report.html"
_QUALITY = 92  # of pictures to look at
_LARGEST_SIDE = 16383  # of a WebP picture


def write_what_is_shown(out: Path, items: Sequence[Item], ours: CodecResults, published: Sequence[Curve]) -> None:
    """Write the page, and for `items`, whose decoded pictures were kept, originals and a grid of pictures."""
    for item in items:
        _write_original(out / ORIGINALS / f"{item.name}{'.webp' if item.still else '.mp4'}", item)
    if items and ours.stills:
        write_picture_grid(items, ours, out / "decoded", out / "pictures.png")
    write_report_page(out / PAGE, [out], published)


def _write_original(path: Path, item: Item) -> None:
    """What was coded, nearly without loss."""
    if not item.still:
        with write_clip(path, item.info(), crf=LOOKED_AT_CRF) as clip:
            for picture in item.pictures():
                clip.write(picture)
        return
    image = Image.fromarray(next(item.pictures()))
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    with replacing(path) as temporary:
        image.save(temporary, "WEBP", quality=_QUALITY)


def write_report_page(path: Path, results: Sequence[str | Path], published: Sequence[Curve], **options: Any) -> Path:
    """`write_page` with the metrics that are known, and those published curves that are of as much as the results."""
    first = load_run(results[0]).series[0]
    frames = (coded.frames for coded in first.coded if coded.fps is not None)
    kept, _ = comparable(curve_of_means(first.codec, first.means, frames), published)
    curves = [{"name": each.name, "points": list(each.points), "note": _about(each)} for each in kept]
    return write_page(path, results, TITLES, curves, **options)


def _about(curve: Curve) -> str:
    return " ".join(part for part in (f"Rate: {RATES[curve.rate]}.", curve.note, curve.source) if part)
