"""Frames per second of a clip, encoder and decoder apart, each in a process of its own: from pixels to bytes and back.

``python -m benchmarks.clip --models small base --sizes 416x240 1280x720``. Random weights (a seed), or those of
``--weights``; rendered clips. Frames are coded one after the other and several at a time, in turns.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measures import apart, model_config, peak_megabytes, seconds
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.bitstream import ClipFormat
from glc_train.codecs import VideoCodec, VideoDecoder, VideoEncoder, compress_clip
from glc_train.data import render_clip
from glc_train.precision import AUTO, NAMES, dtype_of, name_of
from glc_train.weights import build_video, load_video

QUALITY = 0
_WAYS = {"several_at_a_time": True, "one_by_one": False}
_PIXELS = 160_000  # rendered
_RENDERED = 8
_WARM_UP = 6


@dataclass(frozen=True)
class Case:
    """What a process measures: a model of conf/model with random weights, or a weights file, on clips of one size."""

    model: str
    weights: Path | None
    width: int
    height: int
    frames: int
    threads: int
    device: str
    dtype: str
    rounds: int
    before: Path | None = None

    def config(self) -> dict[str, Any]:
        """Of the model with random weights."""
        return {"image": model_config(self.model), "transform": model_config(f"video/{self.model}")}

    def dtype_used(self) -> torch.dtype:
        """Of the auto-encoder."""
        return dtype_of(self.dtype, self.device)

    def codec(self) -> VideoCodec:
        """The codec, ready to code; the same in every process."""
        torch.set_num_threads(self.threads)
        if self.weights is not None:
            codec = load_video(self.weights, device=self.device)
        else:
            torch.manual_seed(0)
            codec = build_video(self.config()).to(self.device).eval().requires_grad_(False)
        codec.compute_dtype = self.dtype_used()
        codec.prepare()
        return codec

    def clip_format(self) -> ClipFormat:
        """Of the clip."""
        return ClipFormat(width=self.width, height=self.height)

    def clip(self) -> list[np.ndarray]:
        """Its frames: rendered, large ones enlarged, since rendering is slow; after `_RENDERED` back and forth."""
        parts = 1 + self.height * self.width // _PIXELS
        rendered = render_clip(-(-self.height // parts), -(-self.width // parts), min(self.frames, _RENDERED), 0)
        size = (self.width, self.height)
        frames = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in rendered]
        turns = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
        return [frames[turns[t % len(turns)]] for t in range(self.frames)]


class Before:
    """An earlier state of the package, which codes the same clip frame by frame in a process of its own."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._files = tempfile.TemporaryDirectory()
        frames, config = (Path(self._files.name) / name for name in ("frames.npy", "config.json"))
        np.save(frames, np.array(case.clip()))
        config.write_text(json.dumps(case.config()), encoding="utf-8")
        program = Path(__file__).with_name("clip_before.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(frames), str(config), str(QUALITY), str(case.threads)],
            env=os.environ | {"PYTHONPATH": str(folder.resolve())}, cwd=folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, operation: str) -> tuple[float, float]:
        """Seconds of the clock and of the processor that "encode" or "decode" took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(operation, file=self._process.stdin, flush=True)
        clock, processor = json.loads(self._process.stdout.readline())
        return clock, processor

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._files.cleanup()


def rates(case: Case, operation: str, run: Callable[[bool], object]) -> dict[str, Any]:
    """Frames per second and processor seconds a frame of `run`, given whether several frames are coded at a time.

    The ways take turns, as does the earlier state; and the memory.
    """
    clock: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}

    def note(name: str, taken: float, used: float) -> None:
        clock.setdefault(name, []).append(case.frames / taken)
        processor.setdefault(name, []).append(used / case.frames)

    def rounds(before: Before | None) -> None:
        for _ in range(case.rounds):
            for name, several in _WAYS.items():
                used = time.process_time()
                taken = seconds(partial(run, several), case.device)
                note(name, taken, time.process_time() - used)
            if before is not None:
                note("before", *before.run(operation))

    with ExitStack() as stack:
        before = None
        if case.before is not None:
            before = stack.enter_context(closing(Before(case, case.before)))
            before.run(operation)  # warm-up
        memory = peak_megabytes(partial(rounds, before), case.device)
    figures: dict[str, Any] = {name: spread(values) for name, values in clock.items()}
    costs = {name: spread(values) for name, values in processor.items()}
    return {"frames_per_second": figures, "processor_seconds_a_frame": costs, **memory}


def measure_encoder(case: Case) -> tuple[bytes, dict[str, Any]]:
    """The file of a rendered clip, and how fast it was encoded.

    Raises:
        RuntimeError: two ways gave two files.
    """
    codec, clip, files = case.codec(), case.clip(), set()

    def encode(several: bool) -> None:
        out = io.BytesIO()
        with VideoEncoder(codec, QUALITY, case.clip_format(), out) as encoder:
            for _ in encoder.write_all(clip) if several else map(encoder.write, clip):
                pass
        files.add(out.getvalue())

    compress_clip(codec, clip[:_WARM_UP], QUALITY, case.clip_format())
    figures = rates(case, "encode", encode)
    return files.pop(), figures | {"same_files": not files}


class _Pipe(io.BytesIO):
    """Whose frames are decoded one by one."""

    def seekable(self) -> bool:
        return False


def measure_decoder(case: Case, data: bytes) -> dict[str, Any]:
    """How fast a file was decoded, pictures included.

    Raises:
        RuntimeError: it does not decode to as many frames.
    """
    codec = case.codec()

    def decode(several: bool, most: int | None = None) -> None:
        decoder = VideoDecoder(codec, io.BytesIO(data) if several else _Pipe(data))
        count = sum(1 for _ in islice(decoder, most))
        if most is None and (count != case.frames or decoder.damages):
            raise RuntimeError(f"{count} of {case.frames} frames were decoded: {decoder.damages}")

    decode(True, _WARM_UP)
    return rates(case, "decode", decode)


def measure(case: Case) -> dict[str, Any]:
    """Figures of one model at one size."""
    data, encoder = apart(measure_encoder, case)
    decoder = apart(measure_decoder, case, data)
    return {"encode": encoder, "decode": decoder, "file_bytes": len(data), "dtype": name_of(case.dtype_used())}


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clip", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small"], help="of conf/model, random weights (default small)")
    parser.add_argument("--weights", type=Path, help="a weights file instead of --models")
    parser.add_argument("--sizes", type=_size, nargs="+", default=[(416, 240), (1280, 720)], metavar="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=8, help="of a clip, the intra frame included (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="how often every clip is coded each way (default 3)")
    parser.add_argument("--dtype", choices=NAMES, default=AUTO, help="of the auto-encoder (default auto)")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="a checkout of an earlier state, which takes turns"
    )
    machine_options(parser)
    options = parser.parse_args(arguments)
    if min(map(min, options.sizes)) < 1:
        parser.error("--sizes must be positive")
    if options.before and (options.weights or options.device != "cpu"):
        parser.error("--before codes with random weights on the processor")
    return checked(parser, options, frames=2, rounds=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all models at all sizes, prints two lines for each and writes the record."""
    options = parse(arguments)
    load = machine_load()
    results: dict[str, dict[str, Any]] = {}
    for name in [options.weights.name] if options.weights else options.models:
        for width, height in options.sizes:
            case = Case(
                name, options.weights, width, height, options.frames, options.threads, options.device, options.dtype,
                options.rounds, options.before,
            )  # fmt: skip
            measured = results.setdefault(name, {})[f"{width}x{height}"] = measure(case)
            for operation in ("encode", "decode"):
                figures = measured[operation]
                taken = ", ".join(
                    f"{value['max']:.2f} {way.replace('_', ' ')}" for way, value in figures["frames_per_second"].items()
                )
                print(
                    f"{name:10} {width}x{height} {operation} frames/s: {taken}; peak {figures['peak_mb']} MB "
                    f"({figures['before_mb']} MB before)",
                    flush=True,
                )
    names = "weights" if options.weights else "_".join(options.models)
    write_record(options, f"clip_{names}", load, results)


if __name__ == "__main__":
    main()
