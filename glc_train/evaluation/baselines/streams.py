"""Video codecs as bare streams, so that no container's bytes count; a picture is a clip of one frame."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from glc_train.evaluation.baselines.packages import needed
from glc_train.evaluation.baselines.search import Baseline, Source
from glc_train.evaluation.codecs import Encoded, EncodedFrame
from glc_train.evaluation.results import EvaluationError
from glc_train.media.clip_colour import Colours
from glc_train.media.clip_info import ClipInfo

_NEVER = 100_000  # frames: a clip has fewer
_DELIMITER = b"\x12\0"  # of AV1's temporal units
# format -> the kind of a unit, the kinds of parameter sets, and the kinds that no decoder needs (SEI, delimiters)
_UNITS: dict[str, tuple[Callable[[bytes], int], frozenset[int], frozenset[int]]] = {
    "h264": (lambda unit: unit[0] & 31, frozenset({7, 8}), frozenset({6, 9})),
    "hevc": (lambda unit: unit[0] >> 1 & 63, frozenset({32, 33, 34}), frozenset({35, 39, 40})),
    "vvc": (lambda unit: unit[1] >> 3, frozenset({14, 15, 16}), frozenset({20, 23, 24})),
}


class StreamCodec(Baseline):
    """An encoder of FFmpeg's. A bare stream in BT.709, limited range, without what no decoder needs.

    The encoder is PyAV's where that has it, else the one in the program that imageio-ffmpeg brings. PyAV decodes.

    Args:
        encoder: as FFmpeg calls it.
        format: of the bare stream, as FFmpeg calls it; also the suffix of the files.
        settings: values of the option `setting`, from the fewest bits to the most.
        options: of the encoder, the same for all.
        setting: option that is searched.
        pixel_format: as FFmpeg calls it; of pictures with an odd side the 4:4:4 of the same depth, which
            some encoders refuse.
        intra_period: largest distance of key frames; None: only the first. A configuration that says null gets that
            of the codec under test.

    Raises:
        EvaluationError: an FFmpeg without that encoder, or no imageio-ffmpeg.
    """

    def __init__(
        self,
        encoder: str,
        format: str,
        settings: Sequence[Any],
        options: Mapping[str, Any] | None = None,
        setting: str = "crf",
        pixel_format: str = "yuv420p",
        intra_period: int | None = None,
    ) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # errors alone: SVT-AV1 tells its settings at each start
        self._program = None if encoder in av.codecs_available else _program_with(encoder)
        self.encoder, self.format, self.suffix, self.settings = encoder, format, f".{format}", settings
        period = {"g": intra_period or _NEVER, "keyint_min": 1}
        self.options = {name: str(value) for name, value in {**period, **(options or {})}.items()}
        self.setting, self.pixel_format = setting, pixel_format

    def encode_at(self, source: Source, setting: Any) -> tuple[bytes, Encoded]:
        """See `Baseline`."""
        info, options = source.info(), self.options | {self.setting: str(setting)}
        pixel_format = self.pixel_format
        if info.width % 2 or info.height % 2:
            pixel_format = pixel_format.replace("420", "444")
        colours = Colours("bt709", full_range=False)
        frames = (colours.to_frame(picture, pixel_format) for picture in source.pictures())
        if self._program is None:
            try:
                packets, seconds = self._with_pyav(frames, info, pixel_format, options)
            except av.FFmpegError as error:
                size = f"{info.width}×{info.height}"
                raise EvaluationError(f"FFmpeg's {self.encoder} failed on {size} {pixel_format}: {error}") from error
        else:
            packets, seconds = self._with_program(self._program, frames, info, pixel_format, options)
        data, coded = _stream(packets, self.format)
        return data, Encoded(coded, seconds)

    def decode_bytes(self, data: bytes) -> Iterator[np.ndarray]:
        """See `Baseline`."""
        with av.open(io.BytesIO(data), "r", format=self.format) as container:
            colours = Colours("bt709", full_range=False)
            for frame in container.decode(video=0):
                yield colours.to_picture(frame)

    def _with_pyav(
        self, frames: Iterator[av.VideoFrame], info: ClipInfo, pixel_format: str, options: dict[str, str]
    ) -> tuple[list[Any], float]:
        encoder: Any = av.CodecContext.create(self.encoder, "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.options = info.width, info.height, pixel_format, options
        encoder.framerate, encoder.time_base = Fraction(info.fps), 1 / Fraction(info.fps)
        packets, seconds = list[Any](), 0.0
        for number, frame in enumerate(itertools.chain(frames, [None])):  # None: what the encoder holds back
            if frame is not None:
                frame.pts, frame.time_base = number, encoder.time_base
            start = time.perf_counter()
            packets += encoder.encode(frame)
            seconds += time.perf_counter() - start
        return packets, seconds

    def _with_program(
        self, program: str, frames: Iterator[av.VideoFrame], info: ClipInfo, pixel_format: str, options: dict[str, str]
    ) -> tuple[list[Any], float]:
        raw = ["-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{info.width}x{info.height}", "-r", str(info.fps)]
        given = [word for name, value in options.items() for word in (f"-{name}", value)]
        with tempfile.TemporaryDirectory() as folder, open(Path(folder, "errors"), "w+b") as errors:
            coded = Path(folder, "coded.mkv")
            command = [program, "-v", "error", *raw, "-i", "pipe:0", "-c:v", self.encoder, *given, str(coded)]
            start = time.perf_counter()
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:  # it has said why
                for frame in frames:
                    process.stdin.write(frame.to_ndarray().tobytes())
            failed, seconds = process.wait(), time.perf_counter() - start
            if failed:
                errors.seek(0)
                said = [*errors.read().decode(errors="replace").splitlines(), f"exit code {failed}"][0]
                raise EvaluationError(f"FFmpeg's {self.encoder} failed: {said}")
            with av.open(str(coded), "r") as container:
                packets = container.demux(video=0)
                if self.format == "vvc":
                    converter = BitStreamFilterContext("vvc_mp4toannexb", container.streams.video[0])
                    packets = (made for packet in packets for made in converter.filter(packet))
                return [packet for packet in packets if packet.size], seconds


def _stream(packets: Sequence[Any], format: str) -> tuple[bytes, tuple[EncodedFrame, ...]]:
    """The packets, in the order in which they are coded, as a bare stream, and the frames as they are shown."""
    seen: set[bytes] = set()
    pieces = [_needed_units(bytes(packet), format, seen) for packet in packets]
    shown = sorted(zip(packets, pieces, strict=True), key=lambda pair: pair[0].pts)
    frames = tuple(EncodedFrame("intra" if packet.is_keyframe else "inter", len(piece)) for packet, piece in shown)
    return b"".join(pieces), frames


def _needed_units(packet: bytes, format: str, seen: set[bytes]) -> bytes:
    """A packet without what a decoder does not need: text about the encoder, and parameter sets that it has `seen`."""
    if format not in _UNITS:
        return packet if packet.startswith(_DELIMITER) else _DELIMITER + packet
    kind, parameters, dropped = _UNITS[format]
    kept = []
    for unit in re.split(rb"\x00\x00\x00?\x01", packet)[1:]:
        repeated = kind(unit) in parameters and unit in seen
        seen.add(unit)
        if kind(unit) not in dropped and not repeated:
            kept.append(b"\0\0\1" + unit)
    return b"".join(kept)


def _program_with(encoder: str) -> str:
    """Path of the program. Raises EvaluationError where it is missing, or has no such encoder."""
    program: str = needed("imageio_ffmpeg", "imageio-ffmpeg", encoder).get_ffmpeg_exe()
    listed = subprocess.run([program, "-v", "error", "-encoders"], capture_output=True, text=True, check=True).stdout
    if encoder not in listed.split():
        raise EvaluationError(f"The FFmpeg {program} has no {encoder}: install another imageio-ffmpeg.")
    return program
