"""Picture grid: originals beside what each quality makes of them, with rate and LPIPS below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glc_train.data import read_picture, write_panel
from glc_train.evaluation.results import CodecResults, EvaluationError


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
        row = [(read_picture(original), f"{label} (original)")]
        for result in sorted((r for r in results.pictures if r.picture == label), key=lambda r: r.bpp):
            file = decoded_dir / f"q{result.quality}" / f"{label}.png"
            if not file.is_file():
                raise EvaluationError(f"{file} is missing: evaluate with save_pictures=true to draw the grid.")
            score = "" if result.lpips is None else f", LPIPS {result.lpips:.3f}"
            row.append((read_picture(file), f"q{result.quality}: {result.bpp:.4f} bpp{score}"))
        table.append(row)
    write_panel(path, table, cell_width)
