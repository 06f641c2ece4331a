"""Clips to look at: scores over frames, and originals beside what was decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from glc_train.data import write_clip
from glc_train.data.clip_info import ClipInfo
from glc_train.evaluation.results import finite
from glc_train.evaluation.video_results import SequenceResult
from glc_train.files import printable, replacing

_PANELS = {
    "bytes": "bytes of the frame",
    "psnr": "PSNR (dB) ↑",
    "lpips": "LPIPS (AlexNet) ↓",
    "dists": "DISTS ↓",
    "flicker": "flicker ↓",
}
_LABEL_HEIGHT = 16


def plot_over_frames(results: Sequence[SequenceResult], path: Path) -> None:
    """Draw a PNG with a panel for each score of one sequence and a line for each codec and quality."""
    panels = [name for name in _PANELS if any(getattr(f, name) is not None for r in results for f in r.per_frame)]
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for index, name in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), index)
        for result in results:
            values = [finite(getattr(frame, name)) for frame in result.per_frame]
            known = [(frame.frame, v) for frame, v in zip(result.per_frame, values, strict=True) if v is not None]
            if known:
                style = "-" if result.codec == "GLC" else "--"
                label = f"{result.codec} q{result.quality}: {result.bpp:.4f} bpp"
                axes.plot(*zip(*known, strict=True), style, linewidth=1, label=label)
        axes.set_xlabel("frame")
        axes.set_title(_PANELS[name])
        axes.grid(alpha=0.3)
        if name == "bytes":
            axes.set_yscale("log")
            axes.legend(fontsize=6)
    figure.suptitle(printable(results[0].sequence), fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    strip = Image.new("RGB", (picture.shape[1], _LABEL_HEIGHT), "white")
    ImageDraw.Draw(strip).text((3, 2), text, fill="black")
    return np.concatenate([np.asarray(strip), picture])


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
