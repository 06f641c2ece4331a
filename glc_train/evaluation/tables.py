"""Tables of rates and BD-rates, for a README or a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glc_train.evaluation.curves import RATES, Curve
from glc_train.evaluation.gaps import FIGURES
from glc_train.files import printable
from glc_train.metrics import TITLES

_DIGITS = {"psnr": 2, "ms_ssim": 4, "lpips": 4, "dists": 4, "fid": 2, "kid": 5, "vmaf": 2}
_NONE = "–"
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "–": "--", "²": r"\textsuperscript{2}", "±": r"$\pm$",
} | {each: f"\\{each}" for each in "&%$#_{}"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Cells of text below their heads; the first `names` columns are words, the others numbers. `notes` follow."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """As GitHub renders it."""
        rule = ["---"] * self.names + ["---:"] * (len(self.head) - self.names)
        lines = ["| " + " | ".join(map(_markdown, cells)) + " |" for cells in (self.head, *self.rows)]
        lines.insert(1, "|" + "|".join(rule) + "|")
        notes = "".join(f"- {_markdown(note)}\n" for note in self.notes)
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n" + (f"\n{notes}" if notes else "")

    def latex(self) -> str:
        """A `tabular` that needs the package booktabs; the notes are comments."""
        rows = [" & ".join(map(_latex, cells)) + r" \\" for cells in (self.head, *self.rows)]
        rows.insert(1, r"\midrule")
        lines = [
            *(f"% {printable(note)}" for note in (self.title, *self.notes)),
            rf"\begin{{tabular}}{{{'l' * self.names}{'r' * (len(self.head) - self.names)}}}",
            r"\toprule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def rate_table(curves: Sequence[Curve], metrics: Sequence[str]) -> Table:
    """A row for each point of each curve, by rising rate; notes say where others come from."""
    rows = [
        (curve.name, RATES[curve.rate], f"{point['bpp']:.4f}", *(_figure(name, point.get(name)) for name in metrics))
        for curve in curves
        for point in sorted(curve.points, key=lambda point: point["bpp"])
        if any(point.get(name) is not None for name in metrics)
    ]
    notes = [
        f"{curve.name}: {'; '.join(filter(None, (curve.source, curve.note)))}."
        for curve in curves
        if curve.source or curve.note
    ]
    head = ("codec", "rate", "bpp", *(f"{FIGURES.get(name, name)}{_arrow(name)}" for name in metrics))
    return Table("Rate and distortion", head, tuple(rows), 2, tuple(notes))


def bd_table(bd_rates: Sequence[Mapping[str, Any]], method: str) -> Table:
    """A row for each entry of `compare`; those that were refused are in the notes, with the reason."""
    rows, notes = [], []
    for entry in bd_rates:
        metric = FIGURES.get(entry["metric"], entry["metric"])
        if entry["percent"] is None:
            who = f"{entry['codec']} against {entry['anchor']} at equal {metric}"
            notes.append(f"No BD-rate of {who}: {entry['reason']}")
        else:
            overlap = " to ".join(_figure(entry["metric"], entry[end]) for end in ("low", "high"))
            share = f"{100 * entry['share']:.1f}%"
            rows.append((entry["codec"], entry["anchor"], metric, f"{entry['percent']:+.1f}%", overlap, share))
    head = ("codec", "anchor", "at equal", "BD-rate", "overlap", "of both ranges")
    return Table(
        f"BD-rates ({method.upper()}; below 0: fewer bits than the anchor)", head, tuple(rows), 3, tuple(notes)
    )


def _figure(metric: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.{_DIGITS[metric]}f}" if metric in _DIGITS else f"{value:.4g}"


def _arrow(metric: str) -> str:
    title = TITLES.get(metric, "")
    return f" {title[-1]}" if title.endswith(("↑", "↓")) else ""


def _markdown(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _latex(text: str) -> str:
    return re.sub(r"[\\~^↓↑–²±&%$#_{}]", lambda found: _LATEX[found[0]], printable(text)).replace("\n", " ")
