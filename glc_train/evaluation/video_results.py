"""What an evaluation on clips found, as data: per frame, per sequence, per quality, and the files that carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from glc_train.evaluation.results import finite, mean, plain

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

    @property
    def name(self) -> str:
        """The sequence's, for messages."""
        return self.sequence

    def row(self) -> dict[str, Any]:
        """Figures of the sequence, without those of its frames."""
        return {name: value for name, value in plain(self).items() if name != "per_frame"}

    def as_dict(self) -> dict[str, Any]:
        """As the published script writes it: figures of the sequence, then lists over frames."""
        content = self.row()
        content["frame_kind"] = [frame.kind for frame in self.per_frame]
        content["frame_bpp"] = [8 * frame.bytes / (self.height * self.width) for frame in self.per_frame]
        for score in FRAME_SCORES:
            content[f"frame_{score}"] = [finite(getattr(frame, score)) for frame in self.per_frame]
        return content


@dataclass(frozen=True)
class VideoMeans:
    """Means over sequences at one quality; ``None`` unless every sequence has the value, and a finite one."""

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

    @property
    def measured(self) -> tuple[SequenceResult, ...]:
        """What was measured one by one."""
        return self.sequences

    def as_dict(self) -> dict[str, Any]:
        """For ``results.json``: means, and ``sequences`` by name and quality."""
        sequences: dict[str, dict[str, Any]] = {}
        for sequence in self.sequences:
            sequences.setdefault(sequence.sequence, {})[str(sequence.quality)] = sequence.as_dict()
        return {"means": [asdict(m) for m in self.means], "sequences": sequences}

    def rows(self) -> list[dict[str, Any]]:
        """For ``results.csv``: a line per sequence and quality."""
        return [sequence.row() for sequence in self.sequences]


def _means(sequences: Sequence[SequenceResult], quality: int) -> VideoMeans:
    chosen = [sequence for sequence in sequences if sequence.quality == quality]
    names = [column.name for column in fields(VideoMeans) if column.name not in ("quality", "sequences")]
    return VideoMeans(
        quality=quality,
        sequences=len(chosen),
        **{name: finite(mean(getattr(sequence, name) for sequence in chosen)) for name in names},
    )
