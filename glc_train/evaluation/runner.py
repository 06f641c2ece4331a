"""The measuring loop: compress to a file, read the file, decompress, measure. One path for codecs and baselines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from glc_train.data.pictures import read_picture, write_picture
from glc_train.evaluation.inputs import labels
from glc_train.evaluation.progress import progress_bar
from glc_train.evaluation.results import CodecResults, EvaluationError, PictureResult, mean_of
from glc_train.evaluation.settings import check_qualities
from glc_train.files import write_bytes
from glc_train.metrics import PatchDistribution, PictureMetrics


class Codec(Protocol):
    """What can be evaluated. A codec with ``compress_with_report`` also gives its own estimate of the rate."""

    @property
    def quality_levels(self) -> int:
        """Number of qualities, 0 to this less one."""

    def compress(self, picture: np.ndarray, quality: int) -> bytes:
        """Compress an (H, W, 3) uint8 RGB picture."""

    def decompress(self, data: bytes) -> np.ndarray:
        """Return the (H, W, 3) uint8 RGB picture of a compressed file."""


def _compress(codec: Codec, picture: np.ndarray, quality: int) -> tuple[bytes, float | None, float | None, float]:
    """File, estimated bits, bits under the coder's tables, seconds."""
    report: Any = getattr(codec, "compress_with_report", None)
    start = time.perf_counter()
    if report is None:
        data = codec.compress(picture, quality)
        return data, None, None, time.perf_counter() - start
    result = report(picture, quality)
    seconds = time.perf_counter() - start
    return result.data, float(result.estimated_bits), float(result.ideal_bits), seconds


def _evaluate_picture(
    codec: Codec, name: str, label: str, original: np.ndarray, quality: int, file: Path, metrics: PictureMetrics
) -> tuple[PictureResult, np.ndarray]:
    try:
        data, estimated_bits, ideal_bits, encode_seconds = _compress(codec, original, quality)
        write_bytes(file, data)
        stored = file.read_bytes()
        start = time.perf_counter()
        decoded = codec.decompress(stored)
        decode_seconds = time.perf_counter() - start
    except ValueError as error:
        raise EvaluationError(f"{label} at quality {quality} with {name}: {error}") from error
    if decoded.shape != original.shape or decoded.dtype != np.uint8:
        raise EvaluationError(f"{file} decodes to {decoded.shape} {decoded.dtype}, its original is {original.shape}.")
    height, width = original.shape[:2]
    result = PictureResult(
        codec=name,
        picture=label,
        quality=quality,
        height=height,
        width=width,
        bytes=len(stored),
        bpp=8 * len(stored) / (height * width),
        estimated_bpp=None if estimated_bits is None else estimated_bits / (height * width),
        ideal_bpp=None if ideal_bits is None else ideal_bits / (height * width),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        **metrics.measure(original, decoded).as_dict(),
    )
    return result, decoded


def evaluate_codec(
    codec: Codec,
    pictures: Sequence[Path],
    qualities: Sequence[int],
    out_dir: Path,
    metrics: PictureMetrics,
    *,
    name: str = "GLC",
    suffix: str = ".glc",
    save_pictures: bool = True,
    new_patches: Callable[[], PatchDistribution] | None = None,
    progress: bool = True,
) -> CodecResults:
    """Measure a codec on pictures through files on disk.

    Files go to ``out_dir/files/q<quality>/<picture><suffix>``, decoded PNGs to ``out_dir/decoded/q<quality>``.

    Args:
        codec: see :class:`Codec`.
        pictures: paths of the originals.
        qualities: which of the codec's qualities, each in [0, quality_levels).
        metrics: what to measure on each decoded picture.
        name: of the codec in the results.
        suffix: of the files, with its dot.
        save_pictures: whether to keep the decoded pictures.
        new_patches: makes an empty :class:`PatchDistribution` for a quality; ``None`` leaves FID and KID out.
        progress: whether to draw a progress bar with the time left.

    Raises:
        EvaluationError: no picture, a quality out of range, two pictures of one name, or a decoded picture of another
            size than its original.
    """
    if not pictures:
        raise EvaluationError("There is nothing to evaluate: give at least one picture.")
    check_qualities(qualities, codec.quality_levels)
    names = labels(pictures)
    corner = read_picture(pictures[0])[:256, :256]
    codec.decompress(codec.compress(np.ascontiguousarray(corner), qualities[0]))  # warms up before the clock runs
    results: list[PictureResult] = []
    means = []
    with progress_bar(progress) as bar:
        task = bar.add_task(name, total=len(pictures) * len(qualities))
        for quality in qualities:
            files, decodeds = out_dir / "files" / f"q{quality}", out_dir / "decoded" / f"q{quality}"
            for folder in (files, decodeds) if save_pictures else (files,):
                folder.mkdir(parents=True, exist_ok=True)
            patches = new_patches() if new_patches else None
            for path, label in zip(pictures, names, strict=True):
                original = read_picture(path)
                file = files / f"{label}{suffix}"
                result, decoded = _evaluate_picture(codec, name, label, original, quality, file, metrics)
                results.append(result)
                if save_pictures:
                    write_picture(decodeds / f"{label}.png", decoded)
                if patches is not None:
                    patches.update(original, decoded)
                bar.advance(task)
            means.append(mean_of(results, quality, **(asdict(patches.compute()) if patches else {})))
    return CodecResults(name, tuple(results), tuple(means))
