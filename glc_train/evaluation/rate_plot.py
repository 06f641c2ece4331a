"""Rate-distortion curves as a plot that a paper can use: the same bytes each time, text that stays text or outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glc_train.evaluation.curves import RATES, Curve, metrics_of
from glc_train.files import printable, replacing
from glc_train.metrics import TITLES

# Okabe and Ito's colours, which people of every colour vision tell apart; their yellow is too pale for lines on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP*X<>"
_COLUMNS = 4  # panels beside each other
_PANEL = (3.5, 3.1)  # inches
_NARROWEST = 5.2
_LEGEND_LINE = 0.2
_LEGEND_SIGN, _LEGEND_HANDLE = 0.06, 0.6  # inches, about: of a sign, of a curve's handle with the space around
# Type 42: TrueType fonts, embedded. The salt stands where matplotlib would draw the names of SVG's parts by chance.
_STYLE: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "glc_train", "font.size": 9}
_NO_DATES: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, whichever the suffix says: the same bytes for the same figure."""
    kind = path.suffix.removeprefix(".")
    with matplotlib.rc_context(_STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, metadata=_NO_DATES[kind])


def plot_rate_distortion(
    ours: Sequence[Curve],
    published: Sequence[Curve],
    path: Path,
    title: str = "",
    metrics: Sequence[str] = (),
) -> None:
    """Draw a panel for each metric, and a legend that says what each curve's rate counts.

    Args:
        ours: measured curves, solid; the rates drawn are about theirs.
        published: dashed.
        path: of the file: `.png`, `.svg` or `.pdf`.
        title: above all.
        metrics: in their order; by default all that any curve of `ours` has.

    Raises:
        ValueError: there is no curve with such a metric.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _figure(ours, published, title, metrics or metrics_of(ours))
    save_figure(figure, path)


def _figure(ours: Sequence[Curve], published: Sequence[Curve], title: str, metrics: Sequence[str]) -> Figure:
    curves = [each for each in [*ours, *published] if any(each.series(metric)[0] for metric in metrics)]
    if not curves:
        raise ValueError("There is nothing to plot: no curve has a metric.")
    columns = min(len(metrics), _COLUMNS)
    rows = -(-len(metrics) // columns)
    width = max(_PANEL[0] * columns, _NARROWEST)
    legend_columns = _legend_columns([_label(each) for each in curves], width, max(2, round(columns * 1.25)))
    legend_height = _LEGEND_LINE * -(-len(curves) // legend_columns) + 0.1
    size = (width, _PANEL[1] * rows + legend_height + (0.3 if title else 0))
    figure = Figure(figsize=size, layout="constrained")
    widest = 1.4 * max((rate for each in ours for metric in metrics for rate in each.series(metric)[0]), default=0)
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.set(title=TITLES.get(metric, metric), xlabel="bits per pixel")
        axes.grid(alpha=0.3)
        for place, curve in enumerate(curves):
            _draw(axes, curve, metric, place, solid=any(curve is each for each in ours))
        _show_rates_up_to(widest, axes, curves, metric)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = [label for label in map(_label, curves) if label in handles]
    figure.legend(
        [handles[label] for label in order], order,
        loc="outside lower center", ncols=legend_columns, fontsize=8, frameon=False,
    )  # fmt: skip
    figure.suptitle(printable(title).replace("$", r"\$"), fontsize=10)
    return figure


def _legend_columns(labels: Sequence[str], width: float, most: int) -> int:
    """As many columns, at most `most`, as fit into `width` inches."""
    for columns in range(most, 1, -1):
        parts = np.array_split([len(label) for label in labels], columns)
        if sum(_LEGEND_SIGN * max(part) + _LEGEND_HANDLE for part in parts if len(part)) <= width:
            return columns
    return 1


def _label(curve: Curve) -> str:
    return f"{printable(curve.name)}, {RATES[curve.rate]}".replace("$", r"\$")  # else it would be mathematics


def _draw(axes: Axes, curve: Curve, metric: str, place: int, solid: bool) -> None:
    rates, values = curve.series(metric)
    if rates:
        axes.plot(
            rates, values, "-" if solid else "--", label=_label(curve), color=_COLOURS[place % len(_COLOURS)],
            marker=_MARKERS[place % len(_MARKERS)], markersize=5, linewidth=1.8 if solid else 1.1,
            markerfacecolor=None if solid else "white", zorder=3 if solid else 2,
        )  # fmt: skip


def _show_rates_up_to(widest: float, axes: Axes, curves: Sequence[Curve], metric: str) -> None:
    """Cut off what other codecs reach with many more bits; their curves would crowd all others into a corner."""
    seen = [value for each in curves for rate, value in zip(*each.series(metric), strict=True) if rate <= widest]
    if seen:
        margin = 0.06 * (max(seen) - min(seen)) or 0.06 * abs(seen[0]) or 1.0
        axes.set_xlim(0, widest)
        axes.set_ylim(min(seen) - margin, max(seen) + margin)
