"""`glc compress`: a picture, a folder of them, or a clip."""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from glc_train import extras
from glc_train.ahead import read_ahead
from glc_train.bitstream import MAX_PIXELS, ClipFormat, check_pixels
from glc_train.cli.errors import CommandError
from glc_train.cli.files import Job, Plan, check_new, chosen_quality, load, plan, remarks, whole_file
from glc_train.cli.jobs import PIPE, Clock, Done, progress_bar, run_jobs
from glc_train.codecs import Codec, ImageCodec, VideoCodec, compress_within
from glc_train.media import open_clip, read_picture, search_pictures
from glc_train.media.clips import frame_files

Frames = Iterable[np.ndarray]
_AHEAD = 3  # frames of a clip that are read before they are coded


def compress(args: argparse.Namespace) -> int:
    """Returns the exit code. Raises CommandError, WeightsError."""
    if args.effort:
        extras.require("eval", "--effort")
    for option in ("effort_seconds", "effort_distortion"):
        if getattr(args, option) is not None and not args.effort:
            raise CommandError(
                f"--{option.replace('_', '-')}: there is no effort; add --effort 1 to 9, or leave it out."
            )
    clip = args.output == PIPE or args.output.suffix.lower() == VideoCodec.suffix
    wanted = _clip(args) if clip else _pictures(args)
    if not wanted.several and args.output != PIPE:
        check_new(wanted.jobs[0].target, args)
    code = run_jobs(wanted, partial(_start, args, clip, wanted.several), args)
    if clip and code == 0 and args.inputs[0].is_dir() and (remark := frame_files(args.inputs[0]).remark):
        print(f"glc: {remark}", file=sys.stderr)
    return code


def _start(args: argparse.Namespace, clip: bool, several: bool) -> Callable[[Job], Done]:
    """What compresses a file in this process."""
    Image.MAX_IMAGE_PIXELS = args.max_pixels or MAX_PIXELS  # the limit that reading pictures keeps to

    @cache
    def codec() -> tuple[Codec, int]:
        loaded = load(args, VideoCodec if clip else ImageCodec)
        if isinstance(loaded, VideoCodec) and args.intra_period is not None:
            loaded.gop = replace(loaded.gop, intra_period=args.intra_period, scene_cuts=False)
        if args.effort:
            from glc_train.effort import Refiner  # with networks that files without effort do not need

            loaded.refiner = Refiner(args.effort, _distortion(args.effort_distortion), seconds=args.effort_seconds)
        return loaded, chosen_quality(args, loaded)

    if several:
        codec()  # weights that cannot be loaded are no failure of each file
    return partial(_compress_one, args, clip, codec, quiet=several or args.quiet)


def _distortion(name: str | None) -> Any:
    """An object of the class of that name; None: the default."""
    if name is None:
        return None
    try:
        kind = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"--effort-distortion {name}: there is no such class ({error}).") from error
    return kind()


def _clip(args: argparse.Namespace) -> Plan:
    if args.target_bpp is not None:
        raise CommandError("--target-bpp: only pictures are coded to a target; give a clip its --quality.")
    if len(args.inputs) > 1:
        raise CommandError(f"{args.output}: a clip is made of one video or one folder of frames; name one.")
    if args.inputs[0] == PIPE:
        raise CommandError("-: a clip is read from a file or a folder of frames; name one.")
    if args.output.is_dir():
        raise CommandError(f"{args.output} is a folder: name the {VideoCodec.suffix} file to write.")
    return Plan([Job(args.inputs[0], args.output)])


def _pictures(args: argparse.Namespace) -> Plan:
    for option in ("size", "fps", "intra_period"):
        if getattr(args, option) is not None:
            raise CommandError(
                f"--{option.replace('_', '-')}: only a clip has it; name a {VideoCodec.suffix} file to write."
            )
    wanted = plan(args.inputs, args.output, search_pictures, ImageCodec.suffix)
    if wanted.jobs[0].target.suffix != ImageCodec.suffix:
        raise CommandError(f"{args.output}: the name of a compressed picture ends in {ImageCodec.suffix}.")
    return wanted


@contextmanager
def _opened(path: Path, args: argparse.Namespace, clip: bool) -> Iterator[tuple[ClipFormat, Frames, int | None]]:
    """Format and frames of what is to be compressed, and how many they are, where that is known."""
    with remarks(path):
        if not clip:
            picture = read_picture(path)
            yield ClipFormat(width=picture.shape[1], height=picture.shape[0]), [picture], 1
            return
        with open_clip(path, size=args.size, fps=args.fps) as reader:
            info = reader.info
            check_pixels(info, args.max_pixels or MAX_PIXELS, str(path))
            clip_format = ClipFormat(
                width=info.width,
                height=info.height,
                fps=info.fps.as_integer_ratio(),
                matrix=info.matrix,
                full_range=info.full_range,
            )
            with ThreadPoolExecutor(1, "source") as thread:
                waits = not (path.is_file() or path.is_dir())  # a named pipe, which an interruption must not wait for
                yield clip_format, reader if waits else read_ahead(reader, thread, _AHEAD), info.frames


def _compress_one(
    args: argparse.Namespace, clip: bool, ready: Callable[[], tuple[Codec, int]], job: Job, quiet: bool
) -> Done:
    with _opened(job.source, args, clip) as (clip_format, frames, total):
        codec, quality = ready()
        clock, number, target = Clock(), 0, args.target_bpp
        most = None if target is None else target * clip_format.width * clip_format.height / 8
        out: AbstractContextManager[BinaryIO]
        out = nullcontext(sys.stdout.buffer) if job.target == PIPE else whole_file(job.target)
        with progress_bar(clip and not quiet, total, None if quiet else codec.refiner) as count:
            if most is not None:
                assert isinstance(codec, ImageCodec)
                (picture,) = frames
                quality, coded = clock(compress_within, codec, picture, most)
            with out as file:
                if most is not None:
                    number, size = 1, file.write(coded.data)
                else:
                    number, size = _encode(codec, quality, clip_format, frames, file, clock, count)
                if not number:
                    raise CommandError(f"{job.source}: no frame in this clip; check the file.")
    over = most is not None and size > most
    done = Done(
        width=clip_format.width,
        height=clip_format.height,
        quality=quality,
        size=size,
        frames=number,
        fps=Fraction(*clip_format.fps) if clip else None,
        seconds=clock.seconds,
        remark="" if target is None else f"over the target of {target:g} bpp" if over else f"target {target:g} bpp",
    )
    if over:
        print(f"glc: {job.source}: even the smallest file has {done.bpp:.4f} bpp, above the target.", file=sys.stderr)
    return done


def _encode(
    codec: Codec, quality: int, clip_format: ClipFormat, frames: Frames, file: BinaryIO, clock: Clock,
    count: Callable[[], None] = lambda: None,
) -> tuple[int, int]:  # fmt: skip
    """Writes the file of these frames; returns their number, and its size in bytes."""
    number = 0
    with codec.encoder(quality, clip_format, file) as encoder:
        reports = encoder.write_all(frames)
        while clock(next, reports, None) is not None:
            number += 1
            count()
    return number, encoder.size
