"""What `glc` does to one file or to a folder of them, and what it says of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from glc_train.cli.errors import CommandError, failure
from glc_train.cli.files import Job
from glc_train.media import ClipError, FoundFiles, PictureError
from glc_train.weights import WeightsError

if TYPE_CHECKING:
    from glc_train.effort import Refiner

PIPE = Path("-")

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A compressed file: its frames' size in pixels, quality, bytes, number of frames, of a clip frames per second."""

    width: int
    height: int
    quality: int
    size: int
    frames: int = 1
    fps: Fraction | None = None

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel; 0 for a clip of no frame."""
        return 8 * self.size / (self.width * self.height * self.frames) if self.frames else 0.0

    @property
    def kbps(self) -> float:
        """Kilobits of the file per second of the clip; 0 for a picture."""
        return 8 * self.size / self.frames * float(self.fps) / 1000 if self.frames and self.fps else 0.0


@dataclass(frozen=True, kw_only=True)
class Done(Coded):
    """What became of one file: also the seconds in the codec, a remark, and whether something of it was lost."""

    seconds: float
    remark: str = ""
    damaged: bool = False

    def __str__(self) -> str:
        """One line for people."""
        clip = self.fps is not None
        parts = [f"{self.width}x{self.height}", f"{self.frames} frames" if clip else "", f"{self.size} bytes"]
        parts += [f"{self.bpp:.4f} bpp", f"{self.kbps:.1f} kbit/s" if clip else "", f"quality {self.quality}"]
        parts += [f"{self.seconds:.2f} s", f"({self.remark})" if self.remark else ""]
        return "  ".join(filter(None, parts))


class Clock:
    """Adds up the seconds that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """What the function returns."""
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


@contextmanager
def frame_bar(clip: bool, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Gives what counts a frame, on a bar on the terminal that stderr is, if it is one and a clip is coded."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not (clip and console.is_terminal), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def effort_bar(refiner: Refiner | None) -> Iterator[None]:
    """Shows the steps of `refiner` on the terminal that stderr is, if it is one."""
    console = Console(stderr=True)
    if refiner is None or not console.is_terminal:
        yield
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        refiner.progress = lambda done, steps: bar.update(task, completed=done, total=steps)
        try:
            yield
        finally:
            refiner.progress = None


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], Done], found: FoundFiles | None, overwrite: bool) -> int:
    """Does every job, failed ones aside; prints a line for each; returns the exit code.

    Args:
        jobs: the files.
        work: raises for a file that cannot be done.
        found: of the folder that the jobs come from, None for a single file; its jobs whose file exists are left out,
            unless `overwrite`.
        overwrite: whether files that exist are replaced.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    progress: AbstractContextManager[Progress | None] = nullcontext()
    if found and console.is_terminal:
        columns = (TextColumn("{task.percentage:3.0f}%"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=console, redirect_stderr=sys.stderr.isatty())
    outcomes: list[Done | str | None] = []
    with progress as bar:
        task = bar.add_task("", total=len(jobs)) if bar else None
        for job in jobs:
            kept = found is not None and not overwrite and job.target.exists()
            outcome = None if kept else _guarded(work, job)
            outcomes.append(outcome)
            if isinstance(outcome, str):
                print(f"glc: {outcome}", file=sys.stderr)
            elif outcome and job.target == PIPE:
                print(f"{job.source} -> {job.target}  {outcome}", file=sys.stderr)
            elif outcome:
                console.print(f"{job.source} -> {job.target}  {outcome}")
            if bar and task is not None:
                bar.advance(task)
    if found:
        _print_summary(console, jobs, outcomes, found)
    whole = all(isinstance(outcome, Done) and not outcome.damaged for outcome in outcomes)
    return 0 if whole and not (found and found.unreadable) else 1


def _guarded(work: Callable[[Job], Done], job: Job) -> Done | str:
    """What `work` makes of the job, or one sentence about why it failed."""
    try:
        return work(job)
    except (CommandError, PictureError, ClipError, WeightsError) as error:  # name the file, which may be another
        return str(error)
    except OSError as error:
        if job.target == PIPE and error.filename is None:  # of standard output
            raise
        return failure(error, job.source)
    except Exception as error:
        return failure(error, job.source)


def _print_summary(
    console: Console, jobs: Sequence[Job], outcomes: Sequence[Done | str | None], found: FoundFiles
) -> None:
    rates = [outcome.bpp for outcome in outcomes if isinstance(outcome, Done)]
    kept = [str(job.target) for job, outcome in zip(jobs, outcomes, strict=True) if outcome is None]
    failed = len(jobs) - len(rates) - len(kept)
    mean = f", mean {sum(rates) / len(rates):.4f} bpp" if rates else ""
    console.print(f"{len(rates)} of {len(jobs)} files done{mean}")
    if failed:
        print(f"glc: {failed} of {len(jobs)} files failed; they are named above.", file=sys.stderr)
    if kept:
        names = ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if kept[5:] else "")
        count = f"{len(kept)} of {len(jobs)} files"
        print(f"glc: {count} were there already and were kept ({names}); --overwrite replaces them.", file=sys.stderr)
    if found.left_out:
        print(f"glc: {found.remark}", file=sys.stderr)
