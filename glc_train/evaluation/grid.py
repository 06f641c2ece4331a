"""Picture grid: originals beside what each quality makes of them, with rate and LPIPS below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glc_train.data.pictures import read_picture, write_picture
from glc_train.evaluation.results import CodecResults, EvaluationError

_CAPTION_HEIGHT = 22
_GAP = 6


def _cell(picture: np.ndarray, caption: str, width: int) -> Image.Image:
    image = Image.fromarray(picture)
    height = max(1, round(image.height * width / image.width))
    cell = Image.new("RGB", (width, height + _CAPTION_HEIGHT), "white")
    cell.paste(image.resize((width, height), Image.Resampling.LANCZOS) if width != image.width else image)
    ImageDraw.Draw(cell).text((2, height + 3), caption, fill="black", font=ImageFont.load_default(13))
    return cell


def write_picture_grid(
    originals: Sequence[Path],
    results: CodecResults,
    decoded_dir: Path,
    path: Path,
    rows: int = 4,
    cell_width: int = 384,
) -> None:
    """Write a PNG with a row for each of the first ``rows`` pictures: the original, then each quality by rising rate.

    Args:
        originals: paths in the order in which they were evaluated.
        decoded_dir: holds ``q<quality>/<picture>.png``.
        cell_width: of each picture, in pixels; smaller pictures keep their width.

    Raises:
        EvaluationError: a decoded picture is missing.
    """
    labels = list(dict.fromkeys(result.picture for result in results.pictures))
    table = []
    for original, label in list(zip(originals, labels, strict=True))[:rows]:
        picture = read_picture(original)
        width = min(cell_width, picture.shape[1])
        row = [_cell(picture, f"{label} (original)", width)]
        for result in sorted((r for r in results.pictures if r.picture == label), key=lambda r: r.bpp):
            file = decoded_dir / f"q{result.quality}" / f"{label}.png"
            if not file.is_file():
                raise EvaluationError(f"{file} is missing: evaluate with save_pictures=true to draw the grid.")
            score = "" if result.lpips is None else f", LPIPS {result.lpips:.3f}"
            row.append(_cell(read_picture(file), f"q{result.quality}: {result.bpp:.4f} bpp{score}", width))
        table.append(row)
    full_width = max(sum(cell.width + _GAP for cell in row) for row in table)
    full_height = sum(max(cell.height for cell in row) + _GAP for row in table)
    canvas, top = Image.new("RGB", (full_width, full_height), "white"), 0
    for row in table:
        left = 0
        for cell in row:
            canvas.paste(cell, (left, top))
            left += cell.width + _GAP
        top += max(cell.height for cell in row) + _GAP
    write_picture(path, np.asarray(canvas))
