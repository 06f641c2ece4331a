"""The measuring loop for clips: encode to a file, decode the file, measure frame by frame. One path for all codecs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glc_train.data import open_clip
from glc_train.data.clip_info import ClipInfo
from glc_train.evaluation.results import EvaluationError, mean
from glc_train.evaluation.video_codecs import ClipCodec, EncodedClip
from glc_train.evaluation.video_results import FRAME_SCORES, FrameResult, SequenceResult
from glc_train.metrics import PictureMetrics


@dataclass(frozen=True)
class Clip:
    """A clip to evaluate: its name, where it is, and how many frames count; ``size`` (width, height) of raw video."""

    name: str
    path: Path
    frames: int | None
    size: tuple[int, int] | None = None

    def pictures(self) -> Iterator[np.ndarray]:
        """Pictures uint8 (H, W, 3), read anew at each call, one in memory at a time."""
        with open_clip(self.path, size=self.size) as reader:
            yield from itertools.islice(reader, self.frames)

    def check(self) -> None:
        """Decodes what counts. Raises: ClipError where that fails."""
        for _ in self.pictures():
            pass

    def info(self) -> ClipInfo:
        """Format of the clip."""
        with open_clip(self.path, size=self.size) as reader:
            return reader.info


def _signed_error(original: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    return (decoded.astype(np.float32) - original.astype(np.float32)) / 255


def _measure(
    clip: Clip, codec: ClipCodec, file: Path, encoded: EncodedClip, metrics: PictureMetrics,
    advance: Callable[[], object],
) -> tuple[tuple[FrameResult, ...], float]:  # fmt: skip
    """Results of the frames, and the decoder's seconds."""
    results: list[FrameResult] = []
    decoded_frames, before, seconds = codec.decode(file), None, 0.0
    for original, frame in zip(clip.pictures(), encoded.frames, strict=True):
        start = time.perf_counter()
        decoded = next(decoded_frames, None)
        seconds += time.perf_counter() - start
        if decoded is None or decoded.shape != original.shape:
            what = "ends there" if decoded is None else f"is {decoded.shape}"
            raise EvaluationError(f"{file}: frame {len(results)} of {original.shape} was written, but the file {what}.")
        error = _signed_error(original, decoded)
        flicker = None if before is None else float(np.sqrt(np.mean((error - before) ** 2, dtype=np.float64)))
        before = error
        scores = metrics.measure(original, decoded).as_dict()
        results.append(FrameResult(len(results), frame.kind, frame.bytes, **scores, flicker=flicker))
        advance()
    if next(decoded_frames, None) is not None:
        raise EvaluationError(f"{file} decodes to more than the {len(results)} frames that were written.")
    return tuple(results), seconds


def evaluate_clip(
    clip: Clip,
    codec: ClipCodec,
    name: str,
    quality: int,
    folder: Path,
    metrics: PictureMetrics,
    advance: Callable[[], object] = lambda: None,
) -> SequenceResult:
    """Measure one clip at one quality through ``folder/<sequence><suffix>``.

    Args:
        clip: what to code.
        codec: see :class:`ClipCodec`.
        name: of the codec in the results.
        quality: index.
        folder: for the file.
        metrics: what to measure on each frame.
        advance: called after each frame.

    Raises:
        EvaluationError: the file does not decode to as many frames of that size.
        ClipError: the clip cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, info = folder / f"{clip.name}{codec.suffix}", clip.info()
    encoded = codec.encode(clip.pictures, info, quality, file)
    frames, decode_seconds = _measure(clip, codec, file, encoded, metrics, advance)
    count, size = len(frames), file.stat().st_size
    pixels = count * info.height * info.width

    def bits_per_pixel(kind: str) -> float | None:
        known = mean(getattr(frame, kind) for frame in encoded.frames)
        return None if known is None else known * count / pixels

    return SequenceResult(
        codec=name,
        sequence=clip.name,
        quality=quality,
        height=info.height,
        width=info.width,
        frames=count,
        fps=float(info.fps),
        bytes=size,
        bpp=8 * size / pixels,
        kbps=8 * size * float(info.fps) / count / 1000,
        estimated_bpp=bits_per_pixel("estimated_bits"),
        ideal_bpp=bits_per_pixel("ideal_bits"),
        **{score: mean(getattr(frame, score) for frame in frames if (score, frame.frame) != ("flicker", 0))
           for score in FRAME_SCORES},
        encode_seconds=encoded.seconds / count,
        decode_seconds=decode_seconds / count,
        per_frame=frames,
    )  # fmt: skip
