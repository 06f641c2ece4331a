"""What an evaluation found, as data: per frame, per picture or clip, per quality, and the files that carry it."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from glc_train import provenance
from glc_train.files import write_text
from glc_train.metrics import MetricSource

SCHEMA_VERSION = 2
CODEC = "GLC"
"""Name of our codec in the results."""
STANDARD_SCORES = ("psnr", "ms_ssim", "lpips", "dists")
"""Columns that all results have, empty where the metric was not asked for; those of other metrics follow."""


_PACKAGES = (
    "glc_train", "torchvision", "torchmetrics", "lpips", "DISTS_pytorch", "constriction", "numpy", "scipy",
    "pillow", "pillow_heif", "pillow-jxl-plugin", "simplejpeg", "av", "imageio-ffmpeg",
)  # fmt: skip
"""Those whose versions can change a result."""


class EvaluationError(ValueError):
    """An evaluation was asked for something that it cannot do; the message says what to change."""


@dataclass(frozen=True)
class FrameResult:
    """One frame: how it was coded, the bytes of its record, its scores, and features of its patches for FID and KID.

    Scores are by name, `None` where they cannot be computed. `flicker`, of clips, is the root mean square, over samples
    in [0, 1], of how much the coding error changed since the frame before: errors that stand still are not seen as
    flicker. `features` are of the original and the decoded picture, (N, F) each.
    """

    kind: str
    bytes: int
    scores: Mapping[str, float | None]
    features: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Result:
    """One picture or clip at one quality. Figures may be infinite or NaN; they are written as `null`.

    Attributes:
        codec, name: of the codec, and of the picture or clip.
        quality: of the codec; of one that codes to given rates, the rate's number, from 0. A baseline's file was to
            have no more bytes than the codec's at this quality.
        bytes: size of the file on disk, everything included.
        estimated_bpp, ideal_bpp: what the model's own probabilities say, and the code length under the coder's integer
            tables, both without headers; None where the codec does not tell.
        scores: means over frames, by name.
        encode_seconds, decode_seconds: wall clock per frame, of the codec alone; NaN where they are not known.
        frames: one of a picture.
        fps: frames per second; None of a picture.
        target_bytes: how many the file was to have at most; None where there was no such target.
    """

    codec: str
    name: str
    quality: int
    height: int
    width: int
    bytes: int
    estimated_bpp: float | None
    ideal_bpp: float | None
    scores: Mapping[str, float | None]
    encode_seconds: float
    decode_seconds: float
    frames: tuple[FrameResult, ...]
    fps: float | None = None
    target_bytes: int | None = None

    @property
    def bpp(self) -> float:
        """Bits on disk over the pixels of all frames."""
        return 8 * self.bytes / (len(self.frames) * self.height * self.width)

    @property
    def kbps(self) -> float:
        """Of a clip: 1,000 bits a second."""
        return 8 * self.bytes * (self.fps or math.nan) / len(self.frames) / 1000

    def figures(self) -> dict[str, float | None]:
        """What is averaged over pictures or clips."""
        return {
            "bpp": self.bpp,
            **({} if self.fps is None else {"kbps": self.kbps}),
            "estimated_bpp": self.estimated_bpp,
            "ideal_bpp": self.ideal_bpp,
            **dict.fromkeys(STANDARD_SCORES),
            **self.scores,
        }

    def seconds(self) -> dict[str, float | None]:
        """What is averaged too, but differs from run to run."""
        return {"encode_seconds": finite(self.encode_seconds), "decode_seconds": finite(self.decode_seconds)}

    def key(self) -> dict[str, Any]:
        """Which picture or clip it is of, at which quality."""
        return {"picture" if self.fps is None else "sequence": self.name, "quality": self.quality}

    def row(self) -> dict[str, Any]:
        """Columns of `results.csv`."""
        return {
            "codec": self.codec,
            **self.key(),
            "height": self.height,
            "width": self.width,
            **({} if self.fps is None else {"frames": len(self.frames), "fps": self.fps}),
            "bytes": self.bytes,
            **{name: finite(value) for name, value in self.figures().items()},
        }

    def as_dict(self) -> dict[str, Any]:
        """For `results.json`; of a clip as the published script writes it: its figures, then lists over frames."""
        content = self.row()
        if self.fps is not None:
            content["frame_kind"] = [frame.kind for frame in self.frames]
            content["frame_bpp"] = [8 * frame.bytes / (self.height * self.width) for frame in self.frames]
            for name in dict.fromkeys([*STANDARD_SCORES, *self.scores]):
                content[f"frame_{name}"] = [finite(frame.scores.get(name)) for frame in self.frames]
        return content


@dataclass(frozen=True)
class Means:
    """Means over pictures or clips at one quality.

    Attributes:
        quality: of the codec.
        count: of pictures or clips.
        figures: by name, as `Result.figures`, each `None` unless all have the value, and a finite one. Of pictures also
            `rate_gap`, mean bpp over mean estimated bpp, less 1, and `fid`, `kid`, `patches` over all patches.
        seconds: means of `Result.seconds`, by name.
    """

    quality: int
    count: int
    figures: Mapping[str, float | None]
    seconds: Mapping[str, float | None]


@dataclass(frozen=True)
class CodecResults:
    """All results of one codec on one data set."""

    codec: str
    results: tuple[Result, ...]

    @property
    def stills(self) -> bool:
        """Whether they are of pictures."""
        return not self.results or self.results[0].fps is None

    @property
    def noun(self) -> str:
        """What they are of, as `results.json` calls it."""
        return "pictures" if self.stills else "sequences"

    @functools.cached_property
    def means(self) -> tuple[Means, ...]:
        """Means by quality."""
        qualities = dict.fromkeys(result.quality for result in self.results)
        return tuple(mean_of([r for r in self.results if r.quality == quality]) for quality in qualities)

    def as_dict(self) -> dict[str, Any]:
        """For `results.json`: means, and what was measured; clips by name and quality."""
        means = [{"quality": each.quality, self.noun: each.count, **each.figures} for each in self.means]
        if self.stills:
            return {"means": means, self.noun: [result.as_dict() for result in self.results]}
        clips: dict[str, dict[str, Any]] = {}
        for result in self.results:
            clips.setdefault(result.name, {})[str(result.quality)] = result.as_dict()
        return {"means": means, self.noun: clips}

    def timings(self) -> dict[str, Any]:
        """For `timings.json`: seconds per frame; means, and of each picture or clip."""
        return {
            "means": [{"quality": each.quality, **each.seconds} for each in self.means],
            self.noun: [each.key() | each.seconds() for each in self.results],
        }


def finite(value: float | None) -> float | None:
    """The value; `None` where it is infinite or NaN, which neither JSON nor a mean can hold."""
    return value if value is None or math.isfinite(value) else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean, perhaps infinite or NaN; `None` where there is no value, or one is missing."""
    known = list(values)
    return None if not known or None in known else sum(v for v in known if v is not None) / len(known)


def mean_of(results: Sequence[Result]) -> Means:
    """Averages results of one quality, all of pictures or all of clips."""
    rows = [result.figures() for result in results]
    figures = {name: finite(mean(row[name] for row in rows)) for name in rows[0]}
    if results[0].fps is None:
        bpp, estimated = figures["bpp"], figures["estimated_bpp"]
        figures["rate_gap"] = bpp / estimated - 1 if bpp is not None and estimated else None
        figures |= _distribution(results)
    seconds = {name: mean(each.seconds()[name] for each in results) for name in results[0].seconds()}
    return Means(results[0].quality, len(results), figures, seconds)


def _distribution(results: Sequence[Result]) -> dict[str, Any]:
    features = [frame.features for result in results for frame in result.frames if frame.features is not None]
    if not features:
        return {"fid": None, "kid": None, "patches": None}
    from glc_train.metrics import compare_distributions  # with PyTorch, which results in a file do not need

    originals, decoded = (np.concatenate(side) for side in zip(*features, strict=True))
    return asdict(compare_distributions(originals, decoded))


@dataclass(frozen=True)
class LeftOut:
    """A picture or clip that was to be evaluated and could not be, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Gap:
    """Why some figures of a metric are `null`: those of the codec, of these (picture or clip, quality).

    FID and KID, of all pictures together, have None for the picture.
    """

    codec: str
    reason: str
    results: tuple[tuple[str | None, int], ...]


@dataclass(frozen=True)
class MetricFacts(MetricSource):
    """A metric in `results.json`.

    Attributes:
        missing: figures that it lacks, and why each.
    """

    missing: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class RunFacts:
    """What made a result: enough to make it again, and the same each time.

    Attributes:
        codec: the one under test.
        data_sha256: stands for all files of a prepared set; None of a folder of the user's.
        hardware: the device in words.
        effort: with which the codec refined pictures.
        packages: versions by name.
        metrics: by the names of their figures.
        left_out, notes: what is missing, and why.
    """

    dataset: str
    codec: str = CODEC
    data_sha256: str | None = None
    checkpoint: str | None = None
    weights_sha256: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    hardware: str = ""
    effort: int = 0
    command: str = field(default_factory=provenance.command)
    commit: str | None = field(default_factory=provenance.commit)
    packages: Mapping[str, str] = field(default_factory=lambda: provenance.versions(_PACKAGES))
    metrics: Mapping[str, MetricSource] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def fingerprint(self, settings: str) -> str:
        """SHA-256 of all that can change a figure, but for the data and this program's sources."""
        facts = {name: value for name, value in asdict(self).items() if name not in ("command", "commit")}
        return hashlib.sha256(json.dumps([settings, facts]).encode()).hexdigest()


def write_json(path: Path, facts: RunFacts, codecs: Sequence[CodecResults], bd_rates: Sequence[Any] = ()) -> None:
    """Write `results.json`: `schema`, the facts of the run, and what each codec's `as_dict` gives."""
    content = {
        "schema": SCHEMA_VERSION,
        **asdict(facts),
        "codecs": {each.codec: each.as_dict() for each in codecs},
        "bd_rates": list(bd_rates),
    }
    _write(path, content)


def write_timings(path: Path, facts: RunFacts, codecs: Sequence[CodecResults]) -> None:
    """Write `timings.json`, which holds all that differs when the same command runs again."""
    timings = {each.codec: each.timings() for each in codecs}
    _write(path, {"schema": SCHEMA_VERSION, "date": provenance.now(), "hardware": facts.hardware, "codecs": timings})


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, codecs: Sequence[CodecResults]) -> None:
    """Write `results.csv`: a line per picture or clip and quality; an empty cell is "not computed"."""
    text = io.StringIO()
    rows = [result.row() for each in codecs for result in each.results]
    writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
