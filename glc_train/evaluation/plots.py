"""Rate-distortion plot: one panel for each metric, our curves solid, published ones dashed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from glc_train.evaluation.curves import Curve
from glc_train.files import replacing

_PANELS = {
    "lpips": "LPIPS (AlexNet) ↓",
    "dists": "DISTS ↓",
    "psnr": "PSNR (dB) ↑",
    "ms_ssim": "MS-SSIM ↑",
    "fid": "FID ↓",
}


def _metrics_of(curves: Sequence[Curve]) -> list[str]:
    return [metric for metric in _PANELS if any(curve.series(metric)[0] for curve in curves)]


def has_metric(curves: Sequence[Curve]) -> bool:
    """Whether there is anything to plot."""
    return bool(_metrics_of(curves))


def plot_rate_distortion(ours: Sequence[Curve], published: Sequence[Curve], path: Path, title: str = "") -> None:
    """Draw a PNG with a panel for each metric that any of our curves has; raises ``ValueError`` where none has.

    Published rates are the models' estimates, ours are bytes on disk: the plot says so.
    """
    panels = _metrics_of(ours)
    if not panels:
        raise ValueError("There is nothing to plot: no curve has a metric.")
    figure = Figure(figsize=(4.2 * len(panels), 3.9), layout="constrained")
    for index, metric in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), index)
        for number, curve in enumerate([*ours, *published]):
            rates, values = curve.series(metric)
            if rates:
                is_ours = number < len(ours)
                axes.plot(rates, values, "o-" if is_ours else "x--", label=curve.name, alpha=1 if is_ours else 0.6)
        axes.set_xlabel("bits per pixel")
        axes.set_title(_PANELS[metric])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    note = "solid: bytes on disk; dashed: read off published figures, rate as estimated by the models"
    figure.suptitle(f"{title}\n{note}" if published else title, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
