"""Draw the curves of several runs over each other: ``python -m glc_train.training.compare RUN_A RUN_B``.

A RUN is the folder of a stage (``outputs/NAME/joint``), or of a run with a single stage.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from glc_train.files import printable, replacing
from glc_train.training.logs import LogError, columns, read_curve

DEFAULT_METRICS = ("train/loss", "train/psnr", "val/psnr/stage_I", "val/lpips/stage_I", "val/psnr/q0", "val/lpips/q0")
_FEW = 30  # curves of fewer points are drawn with markers


@dataclass(frozen=True)
class RunCurve:
    """One metric of one run: steps, raw and smoothed values, all of one length."""

    run: str
    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    smoothed: tuple[float, ...]


def smooth(values: Sequence[float], weight: float) -> tuple[float, ...]:
    """Moving average with weights weight^k into the past, without a pull towards a start value.

    Values that are not finite are passed over, so that one of them does not blot out the rest.
    """
    average, total, out = 0.0, 0.0, []
    for value in values:
        if abs(value) < float("inf"):  # false for NaN too
            average, total = weight * average + (1 - weight) * value, weight * total + 1 - weight
        out.append(average / total if total else float("nan"))
    return tuple(out)


def stage_folder(run: Path) -> Path:
    """The folder with the logs: `run` itself, or its only stage.

    Raises:
        LogError: there is no such folder, or it has no logs or those of several stages.
    """
    if not run.is_dir():
        raise LogError(f"there is no folder {run}: give the folder of a run or of one of its stages")
    if (run / "csv").is_dir():
        return run
    stages = sorted(path.parent for path in run.glob("*/csv") if path.is_dir())
    if not stages:
        raise LogError(f"{run} holds no logs (csv/): give the folder of a run or of one of its stages")
    if len(stages) > 1:
        raise LogError(f"{run} holds several stages: name one, {' or '.join(str(stage) for stage in stages)}")
    return stages[0]


def read_runs(runs: Sequence[Path], metrics: Sequence[str] | None, weight: float) -> list[RunCurve]:
    """Curves of all runs, metric by metric.

    Args:
        runs: see `stage_folder`.
        metrics: columns that every run must have; None takes those of `DEFAULT_METRICS` that all have.
        weight: of the past when smoothing, 0 (none) to below 1.

    Raises:
        LogError: see `stage_folder` and `read_curve`; or the runs have no default metric in common.
    """
    if not 0 <= weight < 1:
        raise LogError(f"--smooth must be at least 0 and below 1, not {weight}")
    folders = [stage_folder(run) for run in runs]
    if metrics is None:
        shared = set.intersection(*(set(columns(folder)) for folder in folders))
        metrics = [name for name in DEFAULT_METRICS if name in shared]
        if not metrics:
            raise LogError(
                f"the runs share none of {', '.join(DEFAULT_METRICS)}: choose with --metric among "
                f"{', '.join(sorted(shared)) or 'nothing (they have no column in common)'}"
            )
    curves = []
    for metric in dict.fromkeys(metrics):
        for run, folder in zip(runs, folders, strict=True):
            curve = read_curve(folder, metric)
            values = tuple(curve.values())
            curves.append(RunCurve(printable(run), metric, tuple(curve), values, smooth(values, weight)))
    return curves


def draw(curves: Sequence[RunCurve], path: Path) -> None:
    """Writes a PNG with a panel for each metric: smoothed curves over pale raw ones."""
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    figure = Figure(figsize=(5.2 * len(metrics), 4.0), layout="constrained")
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(1, len(metrics), number)
        for index, curve in enumerate(c for c in curves if c.metric == metric):
            colour = f"C{index % 10}"
            marker = "o" if len(curve.values) < _FEW else ""
            axes.plot(curve.steps, curve.values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(curve.steps, curve.smoothed, color=colour, label=curve.run, marker=marker, markersize=3)
        axes.set_title(metric)
        axes.set_xlabel("training step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def table(curves: Sequence[RunCurve]) -> str:
    """Last values as text: metric, run, last step, raw and smoothed value, change against the first run."""
    rows = [("metric", "run", "step", "last", "smoothed", "vs first")]
    first: dict[str, float] = {}
    for curve in curves:
        last = curve.smoothed[-1]
        reference = first.setdefault(curve.metric, last)
        change = f"{last / reference - 1:+.1%}" if reference and curve.run != curves[0].run else ""
        rows.append((curve.metric, curve.run, str(curve.steps[-1]), f"{curve.values[-1]:.5g}", f"{last:.5g}", change))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = 2  # names to the left, numbers to the right
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 1 after one sentence on stderr for bad input."""
    parser = argparse.ArgumentParser(prog="python -m glc_train.training.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a stage, or of a run with one")
    parser.add_argument("--metric", nargs="+", help=f"columns of the logs (default: {', '.join(DEFAULT_METRICS)})")
    parser.add_argument("--smooth", type=float, default=0.9, help="weight of the past, 0 for none (default 0.9)")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="PNG to write (default compare.png)")
    options = parser.parse_args(arguments)
    try:
        curves = read_runs(options.runs, options.metric, options.smooth)
        draw(curves, options.out)
    except (LogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(curves))
    print(f"curves: {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
