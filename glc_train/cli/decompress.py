"""`glc decompress`: a `.glc` file, a folder of them, or a clip."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from glc_train.bitstream import MAX_PIXELS, ImageHeader, VideoHeader, check_pixels, read_header, read_pipe_header
from glc_train.cli.errors import CommandError
from glc_train.cli.files import Job, Plan, check_new, is_clip, load, plan
from glc_train.cli.jobs import PIPE, Clock, Done, progress_bar, run_jobs
from glc_train.codecs import Codec, FrameDecoder, ImageCodec, VideoCodec
from glc_train.media import ClipInfo, FoundFiles, find_files, write_clip, write_picture
from glc_train.media.pictures import SUFFIXES

MAX_FILL = 10_000
"""A gap of more lost frames than this is not filled: no damage leaves one, but a forger might."""


def decompress(args: argparse.Namespace) -> int:
    """Returns the exit code. Raises CommandError, FormatError, WeightsError."""
    clip = any(path == PIPE or is_clip(path) for path in args.inputs)
    wanted = _clip(args) if clip else _pictures(args)
    if not wanted.several and not (clip and args.output.is_dir()):  # of folders only an empty one is written to
        check_new(wanted.jobs[0].target, args)
    return run_jobs(wanted, partial(_start, args, clip, wanted.several), args)


def _start(args: argparse.Namespace, clip: bool, several: bool) -> Callable[[Job], Done]:
    """What decompresses a file in this process."""
    loaded: dict[int | None, Codec] = {}

    def codec(header: ImageHeader | VideoHeader | None, name: str = "") -> Codec:
        key = header.fingerprint if header is not None and args.weights is None else None
        if key not in loaded:
            loaded[key] = load(args, VideoCodec if clip else ImageCodec, header, name)
        return loaded[key]

    if several and args.weights is not None:
        codec(None)  # weights that cannot be loaded are no failure of each file
    return partial(_decompress_one, args, codec, quiet=several or args.quiet)


def _clip(args: argparse.Namespace) -> Plan:
    if len(args.inputs) > 1:
        raise CommandError("A clip is decoded alone: give one file.")
    if args.output == PIPE:
        raise CommandError("-: a decoded clip is written to a file or a folder of frames; name one.")
    if args.start < 0:
        raise CommandError(f"--start {args.start}: frames are counted from 0.")
    return Plan([Job(args.inputs[0], args.output)])


def _pictures(args: argparse.Namespace) -> Plan:
    if args.start:
        raise CommandError(f"--start: only a clip has frames, and {args.inputs[0]} is none.")
    wanted = plan(args.inputs, args.output, _find_coded, ".png")
    if wanted.jobs[0].target.suffix.lower() not in SUFFIXES:
        raise CommandError(f"{args.output}: the name of a picture ends in one of {', '.join(SUFFIXES)}.")
    return wanted


def _find_coded(root: Path) -> FoundFiles:
    found = find_files(root, (ImageCodec.suffix,))
    if not found.files:
        raise CommandError(
            f"{root}: no {ImageCodec.suffix} file in this folder; name the folder that `glc compress` wrote."
        )
    return found


@contextmanager
def _written(target: Path, header: ImageHeader | VideoHeader) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives what writes the next frame to `target`."""
    if isinstance(header, ImageHeader):
        yield partial(write_picture, target)
        return
    info = ClipInfo(header.width, header.height, Fraction(*header.fps), header.matrix, header.full_range)
    with write_clip(target, info) as clip:
        yield clip.write


def _decompress_one(
    args: argparse.Namespace, ready: Callable[[ImageHeader | VideoHeader, str], Codec], job: Job, quiet: bool
) -> Done:
    pipe, most, clock = job.source == PIPE, args.max_pixels or MAX_PIXELS, Clock()
    name = "standard input" if pipe else str(job.source)
    with nullcontext(sys.stdin.buffer) if pipe else job.source.open("rb") as file:
        header, source = read_pipe_header(file, name) if pipe else (read_header(file, name), file)
        check_pixels(header, most, name)  # a file that cannot be decoded is no reason to load the weights
        decoder = ready(header, name).decoder(source, name, most)
        if args.start:
            decoder.seek(args.start)
        frames, told = 0, 0
        clip, shown = isinstance(header, VideoHeader), shown_frames(decoder, args.start)
        with progress_bar(clip and not quiet) as count, _written(job.target, header) as write:
            while (picture := clock(next, shown, None)) is not None:
                write(picture)
                frames += 1
                told = _tell(decoder, name, told)
                count()
            told = _tell(decoder, name, told)
            if not frames:
                raise CommandError(_why_none(decoder, args.start, name))
    return Done(
        width=header.width,
        height=header.height,
        quality=header.quality,
        size=decoder.size,
        frames=frames,
        fps=Fraction(*header.fps) if isinstance(header, VideoHeader) else None,
        seconds=clock.seconds,
        damaged=told > 0,
    )


def shown_frames(decoder: FrameDecoder, start: int) -> Iterator[np.ndarray]:
    """The frames from `start` on; where some are lost, the one before stays, or the one after comes early."""
    expected, last = start, None
    for frame in decoder:
        gap = frame.index - expected
        still = frame.picture if last is None else last.picture
        yield from (still for _ in range(gap if gap <= MAX_FILL else 0))
        yield frame.picture
        expected, last = frame.index + 1, frame
    if last is not None and decoder.frames is not None and decoder.frames - expected <= MAX_FILL:
        yield from (last.picture for _ in range(expected, decoder.frames))


def _tell(decoder: FrameDecoder, name: str, told: int) -> int:
    """Says on stderr what was found damaged after the first `told` reports; returns how many there are."""
    for damage in decoder.damages[told:]:
        print(f"glc: {name}: {damage}.", file=sys.stderr)
    return len(decoder.damages)


def _why_none(decoder: FrameDecoder, start: int, name: str) -> str:
    if decoder.damages or not start:
        return f"{name}: no frame can be decoded; copy or encode the file again."
    return f"--start {start}: {name} has only {decoder.frames} frames, counted from 0."
