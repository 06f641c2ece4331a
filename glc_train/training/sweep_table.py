"""Compare the jobs of a sweep: ``python -m glc_train.training.sweep_table outputs/NAME``.

Prints what each job changed and where its last stage ended (`val/...`), and writes that as `sweep.csv` into the folder
of the sweep; where the jobs differ in the weights or targets of the rate, also `rate_distortion.png`.
"""

import argparse
import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from glc_train.files import replacing, write_text
from glc_train.training.family import FAMILIES
from glc_train.training.logs import LogError, columns, read_curve

_RATE = re.compile(r"\.rate\.(lambdas|target_bpp)$")
_PANELS = {"lpips": "LPIPS (AlexNet) ↓", "psnr": "PSNR (dB) ↑"}


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: of its folder. overrides: what its command line changed, key → value as written.
        stage: the last stage that has logs; "" if none has.
        metrics: last values of its `val/` columns, without that prefix; empty for a job without a validation.
    """

    name: str
    overrides: dict[str, str]
    stage: str
    metrics: dict[str, float]


def read_job(folder: Path) -> Job:
    """One job from its folder, whether it is done, at work, or failed.

    Raises:
        LogError: the file of overrides or the logs are damaged.
    """
    file = folder / ".hydra" / "overrides.yaml"
    try:
        found = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, UnicodeError, OSError) as error:
        raise LogError(f"{file} is damaged: {str(error).splitlines()[0]}") from error
    lines = [str(line) for line in OmegaConf.to_container(found) or []] if isinstance(found, ListConfig) else []
    overrides = {key: value for key, _, value in (line.partition("=") for line in lines)}
    for stage in (name for family in FAMILIES.values() for name in reversed(family.stages)):
        try:
            names = [name for name in columns(folder / stage) if name.startswith("val/")]
        except LogError:  # no logs of this stage
            continue
        last = {name: list(read_curve(folder / stage, name).values())[-1] for name in names}
        return Job(folder.name, overrides, stage, {name.removeprefix("val/"): value for name, value in last.items()})
    return Job(folder.name, overrides, "", {})


def read_sweep(folder: Path) -> list[Job]:
    """All jobs of a sweep in the order of their numbers.

    Raises:
        LogError: no sweep there, or a damaged job.
    """
    jobs = [path.parent.parent for path in folder.glob("*/.hydra/overrides.yaml")]
    if not jobs:
        raise LogError(f"{folder} holds no jobs (N/.hydra/overrides.yaml): give the folder of a sweep (train.py -m)")
    return [read_job(job) for job in sorted(jobs, key=lambda path: (len(path.name), path.name))]


def changed(jobs: Sequence[Job]) -> list[str]:
    """The overrides in which the jobs differ, in the order of the command line."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def rows(jobs: Sequence[Job]) -> list[list[str]]:
    """The table: a row of headings, then one for each job. What a job does not have stays empty."""
    keys = changed(jobs)
    metrics = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    body = [
        [
            job.name,
            *(job.overrides.get(key, "") for key in keys),
            job.stage or "no logs",
            *(f"{job.metrics[name]:.5g}" if name in job.metrics else "" for name in metrics),
        ]
        for job in jobs
    ]
    return [["job", *keys, "stage", *metrics], *body]


def sweeps_the_rate(jobs: Sequence[Job]) -> bool:
    """Whether the jobs differ in λ or in the target rates."""
    return any(_RATE.search(key) for key in changed(jobs))


def _curve(job: Job, metric: str) -> tuple[list[float], list[float]]:
    """Rates and values of one job over its qualities, by rising rate."""
    points = [
        (job.metrics[f"bpp/{name}"], value)
        for key, value in job.metrics.items()
        for measured, name in [key.split("/", 1)]
        if measured == metric and name.startswith("q") and f"bpp/{name}" in job.metrics
    ]
    return [rate for rate, _ in sorted(points)], [value for _, value in sorted(points)]


def draw(jobs: Sequence[Job], path: Path) -> bool:
    """Writes a PNG, a panel for each metric and a curve over the qualities for each job; False if there is no curve."""
    keys = changed(jobs)
    panels = [metric for metric in _PANELS if any(_curve(job, metric)[0] for job in jobs)]
    if not panels:
        return False
    figure = Figure(figsize=(5.0 * len(panels), 4.0), layout="constrained")
    for number, metric in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for job in jobs:
            rates, values = _curve(job, metric)
            label = ", ".join(f"{key.split('.')[-1]}={job.overrides.get(key, '')}" for key in keys)
            if rates:
                axes.plot(rates, values, "o-", label=f"{job.name}: {label}")
        axes.set_xlabel("bits per pixel (estimate)")
        axes.set_title(_PANELS[metric])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return True


def _write_csv(table: Sequence[Sequence[str]], path: Path) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(table)
    write_text(path, text.getvalue())


def _show(table: Sequence[Sequence[str]]) -> None:
    shown = Table(*table[0])
    for row in table[1:]:
        shown.add_row(*row)
    terminal = Console()
    # a table that is read by another program is not cut to the width of a terminal
    Console(highlight=False, markup=False, width=None if terminal.is_terminal else 1000).print(shown)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 1 after one sentence on stderr for bad input."""
    parser = argparse.ArgumentParser(prog="python -m glc_train.training.sweep_table", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the sweep: outputs/NAME")
    folder: Path = parser.parse_args(arguments).folder
    try:
        jobs = read_sweep(folder)
        table = rows(jobs)
        _write_csv(table, folder / "sweep.csv")
        drawn = sweeps_the_rate(jobs) and draw(jobs, folder / "rate_distortion.png")
    except (LogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    _show(table)
    print(f"table: {folder / 'sweep.csv'}")
    if drawn:
        print(f"curves: {folder / 'rate_distortion.png'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
