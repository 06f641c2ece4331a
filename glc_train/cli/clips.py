"""Clips to `.glcv` files and back; `-` stands for a pipe."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from glc_train.bitstream import KIND_VIDEO, MAX_PIXELS, ClipFormat, VideoHeader, VideoReader, check_pixels, kind_of
from glc_train.cli.errors import CommandError, failure
from glc_train.cli.files import check_new, chosen_quality, load, remarks, whole_file
from glc_train.codecs import VideoDecoder, VideoEncoder
from glc_train.data import ClipError, ClipInfo, open_clip, write_clip
from glc_train.data.clips import frame_files
from glc_train.weights import load_video

SUFFIX = ".glcv"
PIPE = Path("-")
MAX_FILL = 10_000
"""A gap of more lost frames than this is not filled: no damage leaves one, but a forger might."""


def is_clip(path: Path) -> bool:
    """Whether what `glc` is to decode is a clip: a pipe, or by its name or its first byte."""
    if path == PIPE or path.suffix.lower() == SUFFIX:
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return kind_of(file.read(1)) == KIND_VIDEO


@contextmanager
def _progress(total: int | None) -> Iterator[Progress]:
    """A bar on the terminal that stderr is, if it is one; advance its one task."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        bar.add_task("", total=total)
        yield bar


def rates(header: ClipFormat, frames: int, size: int) -> tuple[float, float]:
    """Bits per pixel and kbit/s of a clip of `frames` frames in `size` bytes; 0 for a clip of none."""
    if not frames:
        return 0.0, 0.0
    bits = 8 * size / frames
    return bits / (header.width * header.height), bits * header.fps[0] / header.fps[1] / 1000


def _line(args: argparse.Namespace, header: VideoHeader, frames: int, size: int, seconds: float) -> str:
    bpp, rate = rates(header, frames, size)
    return (
        f"{args.input} -> {args.output}  {header.width}x{header.height}  {frames} frames  {size} bytes  {bpp:.4f} bpp  "
        f"{rate:.1f} kbit/s  quality {header.quality}  {seconds:.2f} s"
    )


def compress(args: argparse.Namespace) -> int:
    """`glc compress` of one clip; returns the exit code. Raises CommandError and what the reader raises."""
    if args.target_bpp is not None:
        raise CommandError("--target-bpp: only pictures are coded to a target; give a clip its --quality.")
    if args.input == PIPE:
        raise CommandError("-: a clip is read from a file or a folder of frames; name one.")
    if args.output.is_dir():
        raise CommandError(f"{args.output} is a folder: name the {SUFFIX} file to write.")
    if args.output != PIPE:
        check_new(args.output, args.overwrite)
    Image.MAX_IMAGE_PIXELS = args.max_pixels or MAX_PIXELS  # the limit for reading a folder of frames
    with remarks(args.input), open_clip(args.input, size=args.size, fps=args.fps) as reader:
        check_pixels(reader.info, args.max_pixels or MAX_PIXELS, str(args.input))
        codec, info = load(args, load_video), reader.info
        quality = chosen_quality(args, codec)
        clip = ClipFormat(
            width=info.width,
            height=info.height,
            fps=info.fps.as_integer_ratio(),
            matrix=info.matrix,
            full_range=info.full_range,
        )
        start, frames = time.perf_counter(), 0
        target: AbstractContextManager[BinaryIO]
        target = nullcontext(sys.stdout.buffer) if args.output == PIPE else whole_file(args.output)
        try:
            with _progress(info.frames) as bar, target as out, VideoEncoder(codec, quality, clip, out) as encoder:
                for frames, picture in enumerate(reader, start=1):  # noqa: B007 - the last number is how many there are
                    encoder.write(picture)
                    bar.advance(bar.task_ids[0])
                if not frames:
                    raise CommandError(f"{args.input}: no frame in this clip; check the file.")
        except (CommandError, ClipError, OSError):
            raise
        except Exception as error:
            raise CommandError(failure(error, args.input)) from error
    line = _line(args, encoder.header, frames, encoder.size, time.perf_counter() - start)
    print(line, file=sys.stderr if args.output == PIPE else sys.stdout)
    if args.input.is_dir() and (remark := frame_files(args.input).remark):
        print(f"glc: {remark}", file=sys.stderr)
    return 0


def _shown(decoder: VideoDecoder, start: int) -> Iterator[np.ndarray]:
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


def decompress(args: argparse.Namespace) -> int:
    """`glc decompress` of one clip; returns the exit code: 1 if a frame is lost. Raises CommandError, FormatError."""
    name = "standard input" if args.input == PIPE else str(args.input)
    if args.output == PIPE:
        raise CommandError("-: a decoded clip is written to a file or a folder of frames; name one.")
    if args.start < 0:
        raise CommandError(f"--start {args.start}: frames are counted from 0.")
    if not args.output.is_dir():  # of which only an empty one is written to
        check_new(args.output, args.overwrite)
    if args.input == PIPE:
        return _decompress(args, sys.stdin.buffer, name)
    with open(args.input, "rb") as source:
        header = VideoReader(source, name).header  # a file that cannot be decoded is no reason to load the weights
        check_pixels(header, args.max_pixels or MAX_PIXELS, name)
        source.seek(0)
        return _decompress(args, source, name)


def _decompress(args: argparse.Namespace, source: BinaryIO, name: str) -> int:
    codec = load(args, load_video)
    decoder = VideoDecoder(codec, source, name, args.max_pixels or MAX_PIXELS)
    header, begin, frames, told = decoder.header, time.perf_counter(), 0, 0
    if args.start:
        decoder.seek(args.start)
    info = ClipInfo(header.width, header.height, Fraction(*header.fps), header.matrix, header.full_range)
    try:
        with _progress(None) as bar, write_clip(args.output, info) as target:
            for picture in _shown(decoder, args.start):
                target.write(picture)
                frames += 1
                told = _tell(decoder, name, told)
                bar.advance(bar.task_ids[0])
            told = _tell(decoder, name, told)
            if not frames:
                raise CommandError(_why_none(decoder, args.start, name))
    except (CommandError, ClipError):
        raise
    except Exception as error:
        raise CommandError(failure(error, args.input)) from error
    line = _line(args, header, frames, decoder.size, time.perf_counter() - begin)
    print(line)
    return 1 if told else 0


def _tell(decoder: VideoDecoder, name: str, told: int) -> int:
    """Says on stderr what was found damaged after the first `told` reports; returns how many there are."""
    for damage in decoder.damages[told:]:
        print(f"glc: {name}: {damage}.", file=sys.stderr)
    return len(decoder.damages)


def _why_none(decoder: VideoDecoder, start: int, name: str) -> str:
    if decoder.damages or not start:
        return f"{name}: no frame can be decoded; copy or encode the file again."
    return f"--start {start}: {name} has only {decoder.frames} frames, counted from 0."
