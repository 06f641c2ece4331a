"""What an evaluation on clips found, as data: per frame, per sequence, per quality, and the files that carry it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from glc_train.evaluation.results import SCHEMA_VERSION, RunFacts
from glc_train.files import write_text

FRAME_SCORES = ("psnr", "ms_ssim", "lpips", "dists", "flicker")


@dataclass(frozen=True)
class FrameResult:
    """One frame: how it was coded, the bytes of its record, and its scores; ``None`` is "not computed".

    ``flicker`` is the root mean square, over samples in [0, 1], of how much the coding error changed since the frame
    before: errors that stand still are not seen as flicker. The first frame has none.
    """

    frame: int
    kind: str
    bytes: int
    psnr: float | None
    ms_ssim: float | None
    lpips: float | None
    dists: float | None
    flicker: float | None


@dataclass(frozen=True)
class SequenceResult:
    """One clip at one quality.

    ``bytes`` is the size of the file on disk, everything included; ``bpp`` eight times that over the pixels of all
    frames; ``kbps`` 1,000 bits a second at ``fps``. ``estimated_bpp`` and ``ideal_bpp`` as of pictures. Scores are
    means over frames; seconds are wall clock per frame, of the codec alone.
    """

    codec: str
    sequence: str
    quality: int
    height: int
    width: int
    frames: int
    fps: float
    bytes: int
    bpp: float
    kbps: float
    estimated_bpp: float | None
    ideal_bpp: float | None
    psnr: float | None
    ms_ssim: float | None
    lpips: float | None
    dists: float | None
    flicker: float | None
    encode_seconds: float
    decode_seconds: float
    per_frame: tuple[FrameResult, ...]


@dataclass(frozen=True)
class VideoMeans:
    """Means over sequences at one quality; ``None`` unless every sequence has the value."""

    quality: int
    sequences: int
    bpp: float | None
    kbps: float | None
    estimated_bpp: float | None
    ideal_bpp: float | None
    psnr: float | None
    ms_ssim: float | None
    lpips: float | None
    dists: float | None
    flicker: float | None
    encode_seconds: float | None
    decode_seconds: float | None


@dataclass(frozen=True)
class VideoResults:
    """All results of one codec on one data set."""

    codec: str
    sequences: tuple[SequenceResult, ...]

    @property
    def means(self) -> tuple[VideoMeans, ...]:
        """Means by quality, in rising order."""
        return tuple(_means(self.sequences, quality) for quality in sorted({s.quality for s in self.sequences}))


def mean(values: Iterable[float | None]) -> float | None:
    """Mean; ``None`` where there is no value, or one is missing."""
    known = list(values)
    return None if not known or None in known else sum(v for v in known if v is not None) / len(known)


def _means(sequences: Sequence[SequenceResult], quality: int) -> VideoMeans:
    chosen = [sequence for sequence in sequences if sequence.quality == quality]
    names = [column.name for column in fields(VideoMeans) if column.name not in ("quality", "sequences")]
    return VideoMeans(
        quality=quality,
        sequences=len(chosen),
        **{name: mean(getattr(sequence, name) for sequence in chosen) for name in names},
    )


def _as_dict(sequence: SequenceResult) -> dict[str, Any]:
    """As the published script writes it: figures of the sequence, then lists over frames."""
    content = {k: v for k, v in asdict(sequence).items() if k != "per_frame"}
    pixels = sequence.height * sequence.width
    content["frame_kind"] = [frame.kind for frame in sequence.per_frame]
    content["frame_bpp"] = [8 * frame.bytes / pixels for frame in sequence.per_frame]
    for name in FRAME_SCORES:
        content[f"frame_{name}"] = [getattr(frame, name) for frame in sequence.per_frame]
    return content


def write_video_json(path: Path, facts: RunFacts, codecs: Sequence[VideoResults], bd_rates: Sequence[Any] = ()) -> None:
    """Write ``results.json``: facts of the run; for each codec means, and ``sequences`` by name and quality."""
    content: dict[str, Any] = {"schema": SCHEMA_VERSION, **asdict(facts), "codecs": {}, "bd_rates": list(bd_rates)}
    for each in codecs:
        sequences: dict[str, dict[str, Any]] = {}
        for sequence in each.sequences:
            sequences.setdefault(sequence.sequence, {})[str(sequence.quality)] = _as_dict(sequence)
        content["codecs"][each.codec] = {"means": [asdict(m) for m in each.means], "sequences": sequences}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_video_csv(path: Path, codecs: Sequence[VideoResults]) -> None:
    """Write ``results.csv``: a line per sequence, quality and codec; an empty cell is "not computed"."""
    text = io.StringIO()
    names = [column.name for column in fields(SequenceResult) if column.name != "per_frame"]
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for each in codecs:
        writer.writerows(vars(sequence) for sequence in each.sequences)
    write_text(path, text.getvalue())
