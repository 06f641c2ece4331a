"""Seconds and peak memory of the frames of a clip, encoder and decoder apart, each in a process of its own.

``python -m benchmarks.clip --models small base --sizes 416x240 1280x720``. Random weights (a seed), or those of
``--weights``; rendered clips.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measures import apart, model_config, peak_megabytes, seconds
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.bitstream import ClipFormat, FrameKind
from glc_train.codecs import DecodedFrame, FrameReport, VideoCodec, VideoDecoder, VideoEncoder, compress_clip
from glc_train.data import render_clip
from glc_train.weights import build_video, load_video

QUALITY = 0


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

    def codec(self) -> VideoCodec:
        """The codec, ready to code; the same in every process."""
        torch.set_num_threads(self.threads)
        if self.weights is not None:
            codec = load_video(self.weights, device=self.device)
        else:
            torch.manual_seed(0)
            config = {"image": model_config(self.model), "transform": model_config(f"video/{self.model}")}
            codec = build_video(config).to(self.device).eval().requires_grad_(False)
        _ = codec.fingerprint  # prepares the exact arithmetic
        return codec

    def clip_format(self) -> ClipFormat:
        """Of the clip."""
        return ClipFormat(width=self.width, height=self.height)


Times = list[tuple[FrameKind, float]]


def summary(times: Times, memory: dict[str, int | None]) -> dict[str, Any]:
    """Seconds of intra and of conditional frames, and the memory."""
    kinds = sorted({kind for kind, _ in times})
    return {"seconds": {kind: spread([s for k, s in times if k == kind]) for kind in kinds}, **memory}


def _timed(times: Times, device: str, step: Callable[[], FrameReport | DecodedFrame]) -> None:
    frames: list[FrameReport | DecodedFrame] = []
    taken = seconds(lambda: frames.append(step()), device)
    times.append((frames[0].kind, taken))


def measure_encoder(case: Case) -> tuple[bytes, dict[str, Any]]:
    """The file of a rendered clip, and what encoding its frames took."""
    codec = case.codec()
    clip = render_clip(case.height, case.width, case.frames, 0)
    compress_clip(codec, clip[:2], QUALITY, case.clip_format())  # warm-up
    out, times = io.BytesIO(), Times()

    def encode() -> None:
        with VideoEncoder(codec, QUALITY, case.clip_format(), out) as encoder:
            for frame in clip:
                _timed(times, case.device, partial(encoder.write, frame))

    memory = peak_megabytes(encode, case.device)
    return out.getvalue(), summary(times, memory)


def measure_decoder(case: Case, data: bytes) -> dict[str, Any]:
    """What decoding the frames of a file took, pictures included.

    Raises:
        RuntimeError: it does not decode to as many frames.
    """
    codec = case.codec()
    warm = iter(VideoDecoder(codec, io.BytesIO(data)))
    next(warm), next(warm)
    times = Times()

    def decode() -> None:
        frames = iter(VideoDecoder(codec, io.BytesIO(data)))
        for _ in range(case.frames):
            _timed(times, case.device, partial(next, frames))
        if next(frames, None) is not None:
            raise RuntimeError("the decoder found more frames than were encoded")

    return summary(times, peak_megabytes(decode, case.device))


def measure(case: Case) -> dict[str, Any]:
    """Figures of one model at one size."""
    data, encoder = apart(measure_encoder, case)
    return {"encode": encoder, "decode": apart(measure_decoder, case, data), "file_bytes": len(data)}


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clip", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small"], help="of conf/model, random weights (default small)")
    parser.add_argument("--weights", type=Path, help="a weights file instead of --models")
    parser.add_argument("--sizes", type=_size, nargs="+", default=[(416, 240), (1280, 720)], metavar="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=5, help="of a clip, the intra frame included (default 5)")
    machine_options(parser)
    options = parser.parse_args(arguments)
    if min(map(min, options.sizes)) < 1:
        parser.error("--sizes must be positive")
    return checked(parser, options, frames=2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all models at all sizes, prints two lines for each and writes the record."""
    options = parse(arguments)
    load = machine_load()
    results: dict[str, dict[str, Any]] = {}
    for name in [options.weights.name] if options.weights else options.models:
        for width, height in options.sizes:
            case = Case(name, options.weights, width, height, options.frames, options.threads, options.device)
            measured = results.setdefault(name, {})[f"{width}x{height}"] = measure(case)
            for operation in ("encode", "decode"):
                figures = measured[operation]
                times = ", ".join(f"{kind} {taken['median']:.2f} s" for kind, taken in figures["seconds"].items())
                print(
                    f"{name:10} {width}x{height} {operation} {times} a frame, peak {figures['peak_mb']} MB "
                    f"({figures['before_mb']} MB before)",
                    flush=True,
                )
    names = "weights" if options.weights else "_".join(options.models)
    write_record(options, f"clip_{names}", load, results)


if __name__ == "__main__":
    main()
