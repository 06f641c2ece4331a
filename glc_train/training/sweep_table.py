"""Compares the jobs of a sweep: `python -m glc_train.training.sweep_table outputs/NAME`.

Prints what each job changed and where its last stage ended (`val/...`), and writes that as `sweep.csv` into the folder
of the sweep, and as `rate_distortion.png` where the jobs have rates. W&B has such a table for those who log there; this
one needs the CSV logs alone, and no logger draws one metric over another across the qualities of a codec.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from glc_train.files import replacing, write_text
from glc_train.metrics import TITLES
from glc_train.training.logs import LogError, read_curves

_PANELS = ("lpips", "psnr")


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    Attributes:
        name: of its folder.
        overrides: what its command line changed, key → value as written.
        stage: the last stage that has logs; "" if none has.
        metrics: last values of its `val/` columns, without that prefix; empty for a job without a validation.
    """

    name: str
    overrides: dict[str, str]
    stage: str
    metrics: dict[str, float]


def _read_yaml(file: Path) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(file))
    except (YAMLError, OmegaConfBaseException, UnicodeError, OSError) as error:
        raise LogError(f"{file} is damaged: {str(error).splitlines()[0]}") from error


def read_job(folder: Path) -> SweepJob:
    """One job from its folder, whether it is done, at work, or failed.

    Raises:
        LogError: the files that Hydra wrote or the logs are damaged.
    """
    parts = [str(line).partition("=") for line in _read_yaml(folder / ".hydra" / "overrides.yaml")]
    overrides = {key: value for key, _, value in parts}
    stages = _read_yaml(folder / ".hydra" / "config.yaml")["stages"]
    stage = next((name for name in reversed(stages) if any(folder.glob(f"{name}/csv/*/metrics.csv"))), "")
    curves = read_curves(folder / stage) if stage else {}
    last = {name: list(curve.values())[-1] for name, curve in curves.items() if name.startswith("val/")}
    metrics = {name.removeprefix("val/"): value for name, value in last.items()}
    return SweepJob(folder.name, overrides, stage, metrics)


def read_sweep(folder: Path) -> list[SweepJob]:
    """All jobs of a sweep in the order of their numbers.

    Raises:
        LogError: no sweep there, or a damaged job.
    """
    jobs = [path.parent.parent for path in folder.glob("*/.hydra/overrides.yaml")]
    if not jobs:
        raise LogError(f"{folder} holds no jobs (N/.hydra/overrides.yaml): give the folder of a sweep (train.py -m)")
    return [read_job(job) for job in sorted(jobs, key=lambda path: (len(path.name), path.name))]


def changed(jobs: Sequence[SweepJob]) -> list[str]:
    """The overrides in which the jobs differ, in the order of the command line."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def rows(jobs: Sequence[SweepJob]) -> list[list[str]]:
    """The table: a row of headings, then one for each job. What a job does not have stays empty."""
    keys = changed(jobs)
    metrics = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    table = [["job", *keys, "stage", *metrics]]
    for job in jobs:
        figures = [f"{job.metrics[name]:.5g}" if name in job.metrics else "" for name in metrics]
        table.append([job.name, *(job.overrides.get(key, "") for key in keys), job.stage or "no logs", *figures])
    return table


def _points(job: SweepJob, metric: str) -> list[tuple[float, float]]:
    """Rate and value at each quality of a job, by rising rate."""
    rates = {name.removeprefix("bpp/"): rate for name, rate in job.metrics.items() if name.startswith("bpp/q")}
    return sorted((rate, job.metrics[f"{metric}/{q}"]) for q, rate in rates.items() if f"{metric}/{q}" in job.metrics)


def draw(jobs: Sequence[SweepJob], path: Path) -> bool:
    """Writes a PNG, a panel for each metric and a curve over the qualities for each job; False if there is no curve."""
    keys = changed(jobs)
    panels = [metric for metric in _PANELS if any(_points(job, metric) for job in jobs)]
    if not panels:
        return False
    figure = Figure(figsize=(5.0 * len(panels), 4.0), layout="constrained")
    for metric, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        for job in jobs:
            label = ", ".join(f"{key.split('.')[-1]}={job.overrides.get(key, '')}" for key in keys)
            if points := _points(job, metric):
                axes.plot(*zip(*points, strict=True), "o-", label=f"{job.name}: {label}")
        axes.set(xlabel="bits per pixel (estimate)", title=TITLES[metric])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 1 after one sentence on stderr for bad input."""
    parser = argparse.ArgumentParser(prog="python -m glc_train.training.sweep_table", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the sweep: outputs/NAME")
    folder: Path = parser.parse_args(arguments).folder
    try:
        jobs = read_sweep(folder)
        headings, *body = rows(jobs)
        text = io.StringIO(newline="")
        csv.writer(text).writerows([headings, *body])
        write_text(folder / "sweep.csv", text.getvalue())
        drawn = draw(jobs, folder / "rate_distortion.png")
    except (LogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    shown = Table(*headings)
    for row in body:
        shown.add_row(*row)
    # A table that is read by another program is not cut to the width of a terminal.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(shown)
    for what in ["sweep.csv", "rate_distortion.png"][: 1 + drawn]:
        print(folder / what)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
