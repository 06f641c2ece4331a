"""What `glc` does to one file or to a folder of them, and what it says of it."""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from glc_train.cli.errors import CommandError, failure
from glc_train.cli.files import Job, Plan
from glc_train.cli.told import print_record
from glc_train.media import ClipError, PictureError
from glc_train.memory import room
from glc_train.processes import Failure, in_processes
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
        """Bits of the file per pixel; NaN for a clip of no frame."""
        return 8 * self.size / (self.width * self.height * self.frames) if self.frames else math.nan

    @property
    def kbps(self) -> float:
        """Kilobits of the file per second of the clip; NaN for a picture and a clip of no frame."""
        return 8 * self.size / self.frames * float(self.fps) / 1000 if self.frames and self.fps else math.nan

    def record(self) -> dict[str, Any]:
        """As JSON has it; rates of a clip of no frame are null."""
        bpp, kbps = (round(self.bpp, 6), round(self.kbps, 3)) if self.frames else (None, None)
        record: dict[str, Any] = {"width": self.width, "height": self.height, "quality": self.quality}
        record |= {"bytes": self.size, "bpp": bpp}
        clip = {"frames": self.frames, "fps": float(self.fps), "kbps": kbps} if self.fps else {}
        return record | clip


@dataclass(frozen=True, kw_only=True)
class Done(Coded):
    """What became of one file: also the seconds in the codec, a remark, and whether something of it was lost."""

    seconds: float
    remark: str = ""
    damaged: bool = False

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        record = super().record() | {"seconds": round(self.seconds, 3)}
        return record | ({"remark": self.remark} if self.remark else {}) | ({"damaged": True} if self.damaged else {})

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
def progress_bar(clip: bool, total: int | None = None, refiner: Refiner | None = None) -> Iterator[Callable[[], None]]:
    """Gives what counts a frame, on a bar on the terminal that stderr is, if it is one and a clip is coded.

    Another bar shows the steps of `refiner`, in the picture or frame at hand.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and (clip or refiner is not None)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown, transient=True) as bar:
        frames = bar.add_task("frames", total=total, visible=clip)
        if refiner is not None and shown:
            steps = bar.add_task("steps", total=None)
            refiner.progress = lambda done, of: bar.update(steps, completed=done, total=of)
        try:
            yield lambda: bar.advance(frames)
        finally:
            if refiner is not None and shown:
                refiner.progress = None


Work: TypeAlias = Callable[[Job], Done]  # raises for a file that cannot be done
Outcome: TypeAlias = Done | str | None  # str: why it failed; None: there was a file already


def run_jobs(wanted: Plan, start: Callable[[], Work], args: argparse.Namespace) -> int:
    """Does every job, failed ones aside; says of each what came of it; returns the exit code.

    Args:
        wanted: the files; of several, those whose file exists are left out, unless `--overwrite` is given.
        start: makes what does a job, in each process anew.
        args: of the command line.
    """
    if args.overwrite and args.skip_existing:
        raise CommandError("--overwrite, --skip-existing: give one of them, or neither.")
    if args.jobs < 1:
        raise CommandError(f"--jobs {args.jobs}: give 1 or more.")
    console = Console(highlight=False, markup=False, soft_wrap=True, quiet=args.quiet or args.json)
    progress: AbstractContextManager[Progress | None] = nullcontext()
    if wanted.several and console.is_terminal and not console.quiet:
        columns = (TextColumn("{task.percentage:3.0f}%"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=console, redirect_stderr=sys.stderr.isatty())
    outcomes: list[Outcome] = []
    with progress as bar:
        task = bar.add_task("", total=len(wanted.jobs)) if bar else None
        for job, outcome in _outcomes(wanted, start, args):
            outcomes.append(outcome)
            _tell(job, outcome, console, args.json)
            if bar and task is not None:
                bar.advance(task)
    if wanted.several:
        _print_summary(console, wanted, outcomes, args.skip_existing)
    good = [(each is None and args.skip_existing) or (isinstance(each, Done) and not each.damaged) for each in outcomes]
    return 0 if all(good) and not any(each.unreadable for each in wanted.found) else 1


def _tell(job: Job, outcome: Outcome, console: Console, json: bool) -> None:
    if isinstance(outcome, str):
        print(f"glc: {outcome}", file=sys.stderr)
    if json:
        record = {"input": str(job.source), "output": str(job.target)} | _record(outcome)
        print_record(record, sys.stderr if job.target == PIPE else sys.stdout)
    elif isinstance(outcome, Done):
        line = f"{job.source} -> {job.target}  {outcome}"
        if job.target != PIPE:
            console.print(line)
        elif not console.quiet:
            print(line, file=sys.stderr)


def _record(outcome: Outcome) -> dict[str, Any]:
    if outcome is None:
        return {"kept": True}
    return {"error": outcome} if isinstance(outcome, str) else outcome.record()


def _outcomes(wanted: Plan, start: Callable[[], Work], args: argparse.Namespace) -> Iterator[tuple[Job, Outcome]]:
    """Each job in the order of the plan, with what came of it."""
    keep = (wanted.several or args.skip_existing) and not args.overwrite
    waiting = {job for job in wanted.jobs if not (keep and job.target.exists())}
    count, results = min(args.jobs, len(waiting)), dict[Job, tuple[Outcome, str]]()
    work = start() if waiting else None  # what hinders all of them is said once
    if count < 2:
        for job in wanted.jobs:
            yield job, _guarded(work, job) if work and job in waiting else None
        return
    del work
    args.memory = share_of_memory(args.memory, args.device, count)
    begin, order = partial(_worker, start, max(1, torch.get_num_threads() // count)), deque(wanted.jobs)
    for job, outcome in in_processes([job for job in wanted.jobs if job in waiting], count, begin):
        results[job] = (f"{job.source}: {outcome.reason}", "") if isinstance(outcome, Failure) else outcome
        while order and (order[0] in results or order[0] not in waiting):
            result, said = results.get(order[0], (None, ""))
            print(said, end="", file=sys.stderr)
            yield order.popleft(), result
    yield from ((job, None) for job in order)


def share_of_memory(budget: int | None, device: str, count: int) -> int | None:
    """Bytes for each of `count` processes of the budget, or of what is free; None where nothing is known."""
    cuda = device != "cpu" and torch.cuda.is_available()
    whole = room(torch.device("cuda" if cuda else "cpu")) if budget is None else budget
    return None if whole is None else max(1, whole // count)


def _worker(start: Callable[[], Work], threads: int) -> Callable[[Job], tuple[Done | str, str]]:
    """What does a job in a process of its own; what it says of the file comes with its outcome, in its turn."""
    torch.set_num_threads(threads)
    work = start()

    def do(job: Job) -> tuple[Done | str, str]:
        with redirect_stderr(io.StringIO()) as said:
            return _guarded(work, job), said.getvalue()

    return do


def _guarded(work: Work, job: Job) -> Done | str:
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


def _print_summary(console: Console, wanted: Plan, outcomes: Sequence[Outcome], skipped: bool) -> None:
    rates = [outcome.bpp for outcome in outcomes if isinstance(outcome, Done)]
    kept = [str(job.target) for job, outcome in zip(wanted.jobs, outcomes, strict=True) if outcome is None]
    count = len(wanted.jobs)
    failed = count - len(rates) - len(kept)
    mean = f", mean {sum(rates) / len(rates):.4f} bpp" if rates else ""
    console.print(f"{len(rates)} of {count} files done{mean}{f', {len(kept)} kept' if skipped and kept else ''}")
    if failed:
        print(f"glc: {failed} of {count} files failed; they are named above.", file=sys.stderr)
    if kept and not skipped:
        names = ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if kept[5:] else "")
        there = f"{len(kept)} of {count} files were there already and were kept ({names})"
        print(f"glc: {there}; --overwrite replaces them.", file=sys.stderr)
    for found in wanted.found:
        if found.left_out:
            print(f"glc: {found.remark}", file=sys.stderr)
