"""What an evaluation found, as data: per picture, per quality, and the files that carry it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch

from glc_train import provenance
from glc_train.files import write_text

SCHEMA_VERSION = 1


class EvaluationError(ValueError):
    """An evaluation was asked for something that it cannot do; the message says what to change."""


@dataclass(frozen=True)
class PictureResult:
    """One picture at one quality. Figures may be infinite or NaN; they are written as ``null``.

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

    @property
    def name(self) -> str:
        """The picture's, for messages."""
        return self.picture


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
    """Means over pictures at one quality; ``None`` unless every picture has the value, and a finite one.

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

    @property
    def measured(self) -> tuple[PictureResult, ...]:
        """What was measured one by one."""
        return self.pictures

    def as_dict(self) -> dict[str, Any]:
        """For ``results.json``: means and pictures."""
        return {"means": [asdict(m) for m in self.means], "pictures": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """For ``results.csv``: a line per picture and quality."""
        return [plain(picture) for picture in self.pictures]


def finite(value: float | None) -> float | None:
    """The value; ``None`` where it is infinite or NaN, which neither JSON nor a mean can hold."""
    return value if value is None or math.isfinite(value) else None


def plain(record: Any) -> dict[str, Any]:
    """Fields of a dataclass by name, numbers through :func:`finite`."""
    values = {column.name: getattr(record, column.name) for column in fields(record)}
    return {name: finite(value) if isinstance(value, float) else value for name, value in values.items()}


def mean(values: Iterable[float | None]) -> float | None:
    """Mean, perhaps infinite or NaN; ``None`` where there is no value, or one is missing."""
    known = list(values)
    return None if not known or None in known else sum(v for v in known if v is not None) / len(known)


def mean_of(results: Sequence[PictureResult], quality: int, **distribution: Any) -> QualityMeans:
    """Average the results of one quality; ``distribution`` may carry ``fid``, ``kid`` and ``patches``."""
    chosen = [result for result in results if result.quality == quality]
    means: dict[str, Any] = {name: finite(mean(getattr(r, name) for r in chosen)) for name in _AVERAGED}
    bpp, estimated = means["bpp"], means["estimated_bpp"]
    gap = bpp / estimated - 1 if bpp is not None and estimated else None
    return QualityMeans(quality=quality, pictures=len(chosen), rate_gap=gap, **means, **distribution)


def fingerprint(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal: which weights a result belongs to."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A picture or clip that was to be evaluated and could not be, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class RunFacts:
    """What made a result: enough to make it again. ``left_out`` and ``notes`` say what is missing in it, and why."""

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
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


class Results(Protocol):
    """All results of one codec on one data set, of pictures or clips."""

    @property
    def codec(self) -> str:
        """Its name."""

    @property
    def means(self) -> Sequence[Any]:
        """Means over what was measured, one for each quality."""

    @property
    def measured(self) -> Sequence[Any]:
        """What was measured one by one, each with ``name``, ``quality``, ``height`` and ``width``."""

    def as_dict(self) -> dict[str, Any]:
        """For ``results.json``."""

    def rows(self) -> list[dict[str, Any]]:
        """For ``results.csv``."""


def write_json(path: Path, facts: RunFacts, codecs: Sequence[Results], bd_rates: Sequence[Any] = ()) -> None:
    """Write ``results.json``: ``schema``, the facts of the run, and what each codec's ``as_dict`` gives."""
    content = {
        "schema": SCHEMA_VERSION,
        **asdict(facts),
        "codecs": {each.codec: each.as_dict() for each in codecs},
        "bd_rates": list(bd_rates),
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, codecs: Sequence[Results]) -> None:
    """Write ``results.csv``: the rows of each codec; an empty cell is "not computed"."""
    text = io.StringIO()
    rows = [row for each in codecs for row in each.rows()]
    writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
