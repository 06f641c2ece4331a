"""Pictures to `.glc` files and back."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glc_train.bitstream import MAX_PIXELS, check_pixels, unpack_image
from glc_train.cli.errors import CommandError, failure
from glc_train.cli.files import Job, check_new, chosen_quality, load, plan, remarks, whole_file
from glc_train.codecs import ImageCodec
from glc_train.data import FoundFiles, PictureError, find_files, read_picture, search_pictures, write_picture
from glc_train.data.pictures import SUFFIXES
from glc_train.weights import load_codec

SUFFIX = ".glc"


@dataclass(frozen=True)
class Done:
    """What became of one file: size in pixels, bytes of the `.glc` file, quality, seconds in the codec, a remark."""

    width: int
    height: int
    size: int
    quality: int
    seconds: float
    remark: str = ""

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel of the picture."""
        return 8 * self.size / (self.width * self.height)


def find_coded(root: Path) -> FoundFiles:
    """Search a folder for `.glc` files. Raises CommandError if there is none, OSError if it cannot be read."""
    found = find_files(root, (SUFFIX,))
    if not found.files:
        raise CommandError(f"{root}: no {SUFFIX} file in this folder; name the folder that `glc compress` wrote.")
    return found


def compress_to_target(codec: ImageCodec, picture: np.ndarray, target_bpp: float) -> tuple[bytes, int, str]:
    """The largest file of at most `target_bpp` bits per pixel, else the smallest there is.

    Args:
        codec: the codec.
        picture: uint8 (H, W, 3).
        target_bpp: > 0, counted over the whole file.

    Returns:
        The file, its quality, and a remark about what was reached.
    """
    pixels = picture.shape[0] * picture.shape[1]
    files = [codec.compress(picture, quality) for quality in range(codec.quality_levels)]
    fitting = [q for q, data in enumerate(files) if 8 * len(data) <= target_bpp * pixels]
    if fitting:
        best = max(fitting, key=lambda q: len(files[q]))
        return files[best], best, f"target {target_bpp:g} bpp"
    best = min(range(len(files)), key=lambda q: len(files[q]))
    return files[best], best, f"over the target of {target_bpp:g} bpp"


def _compress_one(codec: ImageCodec, job: Job, quality: int, target_bpp: float | None) -> Done:
    with remarks(job.source):
        picture = read_picture(job.source)
    start, remark = time.perf_counter(), ""
    if target_bpp is None:
        data = codec.compress(picture, quality)
    else:
        data, quality, remark = compress_to_target(codec, picture, target_bpp)
    seconds = time.perf_counter() - start
    with whole_file(job.target) as file:
        file.write(data)
    done = Done(picture.shape[1], picture.shape[0], len(data), quality, seconds, remark)
    if target_bpp is not None and done.bpp > target_bpp:
        print(f"glc: {job.source}: even the smallest file has {done.bpp:.4f} bpp, above the target.", file=sys.stderr)
    return done


def _decompress_one(codec: ImageCodec, job: Job, max_pixels: int) -> Done:
    data = job.source.read_bytes()
    quality = unpack_image(data)[0].quality
    start = time.perf_counter()
    picture = codec.decompress(data, max_pixels)
    seconds = time.perf_counter() - start
    write_picture(job.target, picture)
    return Done(picture.shape[1], picture.shape[0], len(data), quality, seconds)


def _guarded(work: Callable[[Job], Done], job: Job) -> Done | str:
    """What `work` makes of the job, or one sentence about why it failed."""
    try:
        return work(job)
    except PictureError as error:  # names the file, which may be the one to write
        return str(error)
    except Exception as error:
        return failure(error, job.source)


def _line(job: Job, done: Done) -> str:
    remark = f"  ({done.remark})" if done.remark else ""
    return (
        f"{job.source} -> {job.target}  {done.width}x{done.height}  {done.size} bytes  {done.bpp:.4f} bpp  "
        f"quality {done.quality}  {done.seconds:.2f} s{remark}"
    )


def _run_all(jobs: Sequence[Job], work: Callable[[Job], Done], found: FoundFiles | None, overwrite: bool) -> int:
    """Does every job, failed ones aside; prints a line for each; returns the exit code.

    found: of the folder that the jobs come from; its jobs whose file exists are left out, unless `overwrite`.
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
            elif outcome:
                console.print(_line(job, outcome))
            if bar and task is not None:
                bar.advance(task)
    if found:
        _print_summary(console, jobs, outcomes, found)
    return 0 if all(isinstance(outcome, Done) for outcome in outcomes) and not (found and found.unreadable) else 1


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


def compress(args: argparse.Namespace) -> int:
    """`glc compress` of a picture or a folder of them; returns the exit code. Raises CommandError."""
    Image.MAX_IMAGE_PIXELS = args.max_pixels or MAX_PIXELS  # the limit that reading keeps to
    jobs, found = plan(args.input, args.output, search_pictures, SUFFIX)
    if jobs[0].target.suffix != SUFFIX:
        raise CommandError(f"{args.output}: the name of a compressed picture ends in {SUFFIX}.")
    if found is None:
        check_new(jobs[0].target, args.overwrite)
    codec = load(args, load_codec)
    quality = chosen_quality(args, codec)
    return _run_all(jobs, lambda job: _compress_one(codec, job, quality, args.target_bpp), found, args.overwrite)


def decompress(args: argparse.Namespace) -> int:
    """`glc decompress` of a `.glc` file or a folder; returns the exit code. Raises CommandError, FormatError."""
    max_pixels = args.max_pixels or MAX_PIXELS
    jobs, found = plan(args.input, args.output, find_coded, ".png")
    if jobs[0].target.suffix.lower() not in SUFFIXES:
        raise CommandError(f"{args.output}: the name of a picture ends in one of {', '.join(SUFFIXES)}.")
    if found is None:
        check_new(jobs[0].target, args.overwrite)
        name = str(args.input)  # a file that cannot be decoded is no reason to load the weights
        check_pixels(unpack_image(args.input.read_bytes(), name)[0], max_pixels, name)
    codec = load(args, load_codec)
    return _run_all(jobs, lambda job: _decompress_one(codec, job, max_pixels), found, args.overwrite)
