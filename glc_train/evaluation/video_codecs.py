"""What can be evaluated on clips: GLC-video, and x264 and x265 at the same bytes, all through files on disk."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from glc_train.codecs import ClipFormat, VideoCodec, VideoDecoder, VideoEncoder
from glc_train.data.clip_colour import Colours
from glc_train.data.clip_info import ClipInfo
from glc_train.evaluation.results import EvaluationError
from glc_train.files import replacing, write_bytes

Frames = Callable[[], Iterable[np.ndarray]]

_BASELINES = {
    # name -> encoder, raw stream format, its options for a key frame every n frames
    "x264": ("libx264", "h264", lambda n: {"preset": "slow", "x264-params": f"keyint={n}:min-keyint=1"}),
    "x265": ("libx265", "hevc", lambda n: {"preset": "slow", "x265-params": f"keyint={n}:min-keyint=1:log-level=none"}),
}
_CRFS = tuple(crf / 2 for crf in range(102, 19, -1))  # 51 down to 10


@dataclass(frozen=True)
class EncodedFrame:
    """How one frame was coded, and the bytes of its record; estimated and ideal bits where the codec tells them."""

    kind: str
    bytes: int
    estimated_bits: float | None = None
    ideal_bits: float | None = None


@dataclass(frozen=True)
class EncodedClip:
    """Frames of a written file, and the seconds that the encoder took for all of them."""

    frames: tuple[EncodedFrame, ...]
    seconds: float


class ClipCodec(Protocol):
    """What can be evaluated on a clip."""

    suffix: str

    def encode(self, frames: Frames, info: ClipInfo, quality: int, path: Path) -> EncodedClip:
        """Write the clip to `path`; `frames` gives its pictures, uint8 (H, W, 3), as often as it is called."""
        ...

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """Pictures, uint8 (H, W, 3), of a file."""
        ...


class GLCClips:
    """GLC-video as a :class:`ClipCodec`."""

    suffix = ".glcv"

    def __init__(self, codec: VideoCodec) -> None:
        self.codec = codec

    def encode(self, frames: Frames, info: ClipInfo, quality: int, path: Path) -> EncodedClip:
        """See :class:`ClipCodec`."""
        clip = ClipFormat(
            width=info.width,
            height=info.height,
            fps=info.fps.as_integer_ratio(),
            matrix=info.matrix,
            full_range=info.full_range,
        )
        reports, seconds = [], 0.0
        with (
            replacing(path) as temporary,
            open(temporary, "wb") as file,
            VideoEncoder(self.codec, quality, clip, file) as encoder,
        ):
            for frame in frames():
                start = time.perf_counter()
                report = encoder.write(frame)
                seconds += time.perf_counter() - start
                reports.append(EncodedFrame(report.kind, report.size, report.estimated_bits, report.ideal_bits))
        return EncodedClip(tuple(reports), seconds)

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See :class:`ClipCodec`. Raises EvaluationError where the file is damaged."""
        with open(path, "rb") as file:
            decoder = VideoDecoder(self.codec, file, str(path))
            for frame in decoder:
                yield frame.picture
            if decoder.damages:
                raise EvaluationError(f"{path} does not decode: {decoder.damages[0]}")


class X26xClips:
    """x264 or x265 (preset slow) as a :class:`ClipCodec`: bare streams, so that no container's bytes count.

    Args:
        name: "x264" or "x265".
        intra_period: largest distance of key frames; ``None``: only the first.
        targets: bytes, one for each quality: the lowest constant rate factor whose stream does not exceed them, or the
            highest there is.

    Raises:
        EvaluationError: another name, or an FFmpeg without that encoder.
    """

    def __init__(self, name: str, intra_period: int | None, targets: dict[int, int]) -> None:
        if name not in _BASELINES:
            raise EvaluationError(f"There is no baseline {name!r} for clips: choose among {', '.join(_BASELINES)}.")
        self.encoder, self.format, options = _BASELINES[name]
        if self.encoder not in av.codecs_available:
            raise EvaluationError(f"This PyAV was built without {self.encoder}: leave the baseline {name} out.")
        self.suffix = f".{self.format}"
        self.options: dict[str, str] = options(intra_period or 100_000)
        self.targets = targets

    def encode(self, frames: Frames, info: ClipInfo, quality: int, path: Path) -> EncodedClip:
        """See :class:`ClipCodec`; the seconds are those of the encoding that was kept."""
        low, high = 0, len(_CRFS) - 1
        best = self._encode(frames, info, _CRFS[0])
        while low < high:  # files grow as the rate factor falls
            middle = (low + high + 1) // 2
            found = self._encode(frames, info, _CRFS[middle])
            if len(found[0]) <= self.targets[quality]:
                low, best = middle, found
            else:
                high = middle - 1
        data, clip = best
        write_bytes(path, data)
        return clip

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See :class:`ClipCodec`."""
        with av.open(str(path), format=self.format) as container:
            colours = Colours("bt709", full_range=False)
            for frame in container.decode(video=0):
                yield colours.to_picture(frame)

    def _encode(self, frames: Frames, info: ClipInfo, crf: float) -> tuple[bytes, EncodedClip]:
        odd = info.width % 2 or info.height % 2
        pixel_format = "yuv444p" if odd else "yuv420p"
        colours, out, written, seconds = Colours("bt709", full_range=False), io.BytesIO(), [], 0.0
        with av.open(out, "w", format=self.format) as container:
            options = self.options | {"crf": str(crf)}
            stream: Any = container.add_stream(self.encoder, rate=Fraction(info.fps), options=options)
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, pixel_format
            pictures = (colours.to_frame(picture, pixel_format) for picture in frames())
            for number, frame in enumerate(itertools.chain(pictures, [None])):  # None: what the encoder holds back
                if frame is not None:
                    frame.pts, frame.time_base = number, 1 / Fraction(info.fps)
                start = time.perf_counter()
                packets = stream.encode(frame)
                seconds += time.perf_counter() - start
                written += packets
                container.mux(packets)
        order = sorted(written, key=lambda packet: packet.pts)  # coded out of order
        kinds = tuple(EncodedFrame("intra" if packet.is_keyframe else "inter", packet.size) for packet in order)
        return out.getvalue(), EncodedClip(kinds, seconds)
