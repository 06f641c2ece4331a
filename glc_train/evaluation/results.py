"""What an evaluation found, as data: per picture, per quality, and the files that carry it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from glc_train import provenance
from glc_train.files import write_text

SCHEMA_VERSION = 1


class EvaluationError(ValueError):
    """An evaluation was asked for something that it cannot do; the message says what to change."""


@dataclass(frozen=True)
class PictureResult:
    """One picture at one quality.

    ``bytes`` is the size of the file on disk and ``bpp`` eight times that over the original's pixels. ``estimated_bpp``
    is what the model's own probabilities say and ``ideal_bpp`` the code length under the coder's integer tables, both
    without headers. Times are wall clock seconds of compress and decompress alone. ``None`` is "not computed".
    """

    codec: str
    picture: str
    quality: int
    height: int
    width: int
    bytes: int
    bpp: float
    estimated_bpp: float | None
    ideal_bpp: float | None
    psnr: float | None
    ms_ssim: float | None
    lpips: float | None
    dists: float | None
    encode_seconds: float
    decode_seconds: float


_AVERAGED = (
    "bpp",
    "estimated_bpp",
    "ideal_bpp",
    "psnr",
    "ms_ssim",
    "lpips",
    "dists",
    "encode_seconds",
    "decode_seconds",
)


@dataclass(frozen=True)
class QualityMeans:
    """Means over pictures at one quality; ``None`` unless every picture has the value.

    ``rate_gap`` is mean bpp over mean estimated bpp, less 1. ``fid`` and ``kid`` are over all patches.
    """

    quality: int
    pictures: int
    bpp: float | None = None
    estimated_bpp: float | None = None
    ideal_bpp: float | None = None
    rate_gap: float | None = None
    psnr: float | None = None
    ms_ssim: float | None = None
    lpips: float | None = None
    dists: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    fid: float | None = None
    kid: float | None = None
    patches: int | None = None


@dataclass(frozen=True)
class CodecResults:
    """All results of one codec on one data set."""

    codec: str
    pictures: tuple[PictureResult, ...]
    means: tuple[QualityMeans, ...]


def mean_of(results: Sequence[PictureResult], quality: int, **distribution: Any) -> QualityMeans:
    """Average the results of one quality; ``distribution`` may carry ``fid``, ``kid`` and ``patches``."""
    chosen = [result for result in results if result.quality == quality]
    means: dict[str, Any] = {}
    for name in _AVERAGED:
        values = [getattr(result, name) for result in chosen]
        means[name] = sum(values) / len(values) if values and None not in values else None
    bpp, estimated = means["bpp"], means["estimated_bpp"]
    gap = bpp / estimated - 1 if bpp is not None and estimated else None
    return QualityMeans(quality=quality, pictures=len(chosen), rate_gap=gap, **means, **distribution)


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal: which weights a result belongs to."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class RunFacts:
    """What made a result: enough to make it again."""

    dataset: str
    checkpoint: str | None = None
    weights_sha256: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    command: str = field(default_factory=provenance.command)
    commit: str | None = field(default_factory=provenance.commit)
    date: str = field(default_factory=provenance.now)
    torch: str = str(torch.__version__)
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")


def write_json(path: Path, facts: RunFacts, codecs: Sequence[CodecResults], bd_rates: Sequence[Any] = ()) -> None:
    """Write ``results.json``: ``schema``, the facts of the run, and means and pictures of each codec."""
    content = {
        "schema": SCHEMA_VERSION,
        **asdict(facts),
        "codecs": {
            each.codec: {"means": [asdict(m) for m in each.means], "pictures": [asdict(p) for p in each.pictures]}
            for each in codecs
        },
        "bd_rates": list(bd_rates),
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, codecs: Sequence[CodecResults]) -> None:
    """Write ``results.csv``: a line per picture, quality and codec; an empty cell is "not computed"."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in fields(PictureResult)], lineterminator="\n")
    writer.writeheader()
    for each in codecs:
        writer.writerows(asdict(picture) for picture in each.pictures)
    write_text(path, text.getvalue())
