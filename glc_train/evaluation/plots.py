"""What an evaluation shows: scores over frames as plots, originals beside what was decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from glc_train.data import write_panel
from glc_train.evaluation.rate_plot import save_figure
from glc_train.evaluation.results import CodecResults, EvaluationError, Result, finite
from glc_train.files import printable
from glc_train.media import read_picture, write_clip
from glc_train.media.clip_info import ClipInfo
from glc_train.metrics import TITLES

if TYPE_CHECKING:
    from glc_train.evaluation.sets import Item

_LABEL_HEIGHT = 16


def plot_over_frames(results: Sequence[Result], path: Path) -> None:
    """Draw a PNG with a panel for bytes and for each score of one clip, and a line for each codec and quality."""
    series = [_over_frames(result) for result in results]
    names = [name for name in series[0] if any(value is not None for each in series for value in each[name])]
    figure = Figure(figsize=(4.2 * len(names), 3.6), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), number)
        axes.set(xlabel="frame", title=TITLES.get(name, name))
        axes.grid(alpha=0.3)
        for result, each in zip(results, series, strict=True):
            known = [(number, value) for number, value in enumerate(each[name]) if value is not None]
            if known:
                label = f"{result.codec} q{result.quality}: {result.bpp:.4f} bpp"
                style = "-" if result.codec == results[0].codec else "--"
                axes.plot(*zip(*known, strict=True), style, linewidth=1, label=label)
        if name == "bytes":
            axes.set_yscale("log")
            axes.legend(fontsize=6)
    figure.suptitle(printable(results[0].name), fontsize=9)
    save_figure(figure, path)


def _over_frames(result: Result) -> dict[str, list[float | None]]:
    scores = {name: [finite(frame.scores[name]) for frame in result.frames] for name in result.scores}
    return {"bytes": [float(frame.bytes) for frame in result.frames], **scores}


def write_picture_grid(items: Sequence[Item], results: CodecResults, decoded_dir: Path, path: Path) -> None:
    """Write a PNG with a row for each of the first four pictures: the original, then each quality by rising rate.

    Args:
        items: pictures that were evaluated.
        results: of the codec.
        decoded_dir: holds `q<quality>/<picture>.png`.
        path: of the PNG.

    Raises:
        EvaluationError: a decoded picture is missing.
    """
    table = []
    for item in items[:4]:
        row = [(next(item.pictures()), f"{item.name} (original)")]
        for result in sorted((r for r in results.results if r.name == item.name), key=lambda r: r.bpp):
            file = decoded_dir / f"q{result.quality}" / f"{item.name}.png"
            if not file.is_file():
                raise EvaluationError(f"{file} is missing: evaluate with save_pictures=true to draw the grid.")
            lpips = result.scores.get("lpips")
            score = "" if lpips is None else f", LPIPS {lpips:.3f}"
            row.append((read_picture(file), f"q{result.quality}: {result.bpp:.4f} bpp{score}"))
        table.append(row)
    write_panel(path, table)


def write_side_by_side(path: Path, info: ClipInfo, columns: Sequence[tuple[str, Iterator[np.ndarray]]]) -> None:
    """Write a video that shows clips of one size beside each other, as long as the shortest.

    Args:
        path: `.mp4`.
        info: of each clip.
        columns: label and pictures, uint8 (H, W, 3), of each clip.
    """
    width, height = info.width * len(columns), info.height + _LABEL_HEIGHT
    shape = ClipInfo(width + width % 2, height + height % 2, info.fps, info.matrix, info.full_range)
    with write_clip(path, shape, crf=18) as writer:
        for pictures in zip(*(clip for _, clip in columns), strict=False):
            cells = [_labelled(p, label) for p, (label, _) in zip(pictures, columns, strict=True)]
            row = np.concatenate(cells, axis=1)
            writer.write(np.pad(row, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    strip = Image.new("RGB", (picture.shape[1], _LABEL_HEIGHT), "white")
    ImageDraw.Draw(strip).text((3, 2), text, fill="black")
    return np.concatenate([np.asarray(strip), picture])
