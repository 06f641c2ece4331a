"""Rate-distortion curves, ours and the published ones that travel with this package, and their BD-rates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from glc_train.evaluation.bd_rate import BDRateError, Method, bd_rate
from glc_train.evaluation.results import CodecResults
from glc_train.metrics import TITLES

RATES = {
    "bytes": "bytes on disk",
    "strings": "bytes of its strings",
    "estimated": "rate estimated",
    "stated": "rate as stated",
}
"""What the rate of a curve counts, as legends say it: a stated one does not say what, strings have no container."""
_NOT_METRICS = {
    "quality", "pictures", "sequences", "bpp", "kbps", "estimated_bpp", "ideal_bpp", "rate_gap", "encode_seconds",
    "decode_seconds", "patches", "flicker",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Points of one codec on one data set: mappings with `bpp` and values of metrics by name.

    Attributes:
        name: of the codec.
        points: in any order.
        rate: what their rate counts, a key of `RATES`.
        source, note: where they come from, and what to bear in mind in comparing them.
        items: how many pictures or clips they are means of; None where that is not known.
        frames: how many frames of each clip; None of pictures, 0 where they differ.
    """

    name: str
    points: tuple[dict[str, float], ...]
    rate: str = "bytes"
    source: str = ""
    note: str = ""
    items: int | None = None
    frames: int | None = None

    @property
    def extent(self) -> str:
        """How much they are means of, in words."""
        if self.frames is None:
            return f"{self.items} pictures"
        return f"{self.items} clips" + (f" of {self.frames} frames" if self.frames else "")

    @property
    def metrics(self) -> list[str]:
        """Metrics that any point has."""
        return list(dict.fromkeys(name for point in self.points for name in point if name != "bpp"))

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Rates in bits per pixel and values of `metric`, by rising rate, where both are known."""
        known = sorted((p["bpp"], p[metric]) for p in self.points if p.get(metric) is not None)
        return [rate for rate, _ in known], [value for _, value in known]


def published_datasets() -> list[str]:
    """Names that `load_published` knows."""
    folder = resources.files("glc_train.evaluation") / "published"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_published(dataset: str) -> list[Curve]:
    """Published curves on a data set, such as `kodak`.

    Raises `ValueError` for a name that is not among `published_datasets`.
    """
    if dataset not in published_datasets():
        raise ValueError(
            f"There are no published curves for {dataset!r}: choose among {', '.join(published_datasets())}."
        )
    text = (resources.files("glc_train.evaluation") / "published" / f"{dataset}.json").read_text(encoding="utf-8")
    content = json.loads(text)
    items, frames = content["items"], content.get("frames")
    return [
        Curve(each["codec"], tuple(each["points"]), each["rate"], each["source"], each["note"], items, frames)
        for each in content["curves"]
    ]


def comparable(ours: Curve, published: Sequence[Curve]) -> tuple[list[Curve], str | None]:
    """The published curves that are of as many pictures, or clips and frames, as ours; and why others are left out."""
    kept = [each for each in published if (each.items, each.frames) == (ours.items, ours.frames)]
    if len(kept) == len(published):
        return kept, None
    whole = next(each.extent for each in published if each not in kept)
    return kept, f"Published curves are left out: they are of {whole}, these results of {ours.extent}."


def as_curve(results: CodecResults) -> Curve:
    """Means of a codec as a curve over bytes on disk."""
    means = [{**mean.figures, results.noun: mean.count} for mean in results.means]
    return curve_of_means(results.codec, means, (len(each.frames) for each in results.results if each.fps is not None))


def is_number(value: Any) -> bool:
    """Whether a curve can have the value: a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def curve_of_means(name: str, means: Sequence[Mapping[str, Any]], frames: Iterable[int] = ()) -> Curve:
    """The curve of a codec's `means`, as `results.json` has them; `frames`: of each of its clips."""
    points = (
        {key: value for key, value in mean.items() if is_number(value) and (key == "bpp" or key not in _NOT_METRICS)}
        for mean in means
    )
    counts = {mean.get("pictures", mean.get("sequences")) for mean in means}
    lengths = set(frames)
    return Curve(
        name,
        tuple(points),
        items=counts.pop() if len(counts) == 1 else None,
        frames=None if not lengths else lengths.pop() if len(lengths) == 1 else 0,
    )


def metrics_of(curves: Sequence[Curve]) -> list[str]:
    """Metrics that any of the curves has: the known ones in the order of `TITLES`, then those of one's own."""
    found = dict.fromkeys(name for curve in curves for name in curve.metrics)
    return [*(name for name in TITLES if name in found), *(name for name in found if name not in TITLES)]


def compare(ours: Curve, anchors: Sequence[Curve], method: Method = "pchip") -> list[dict[str, Any]]:
    """BD-rates of `ours` against each anchor and metric both have; where refused, `percent` is `None`."""
    found = []
    for anchor in anchors:
        for metric in metrics_of([ours]):
            (rates, values), (our_rates, our_values) = anchor.series(metric), ours.series(metric)
            if not rates:
                continue
            entry: dict[str, Any] = {"codec": ours.name, "anchor": anchor.name, "metric": metric}
            try:
                entry |= asdict(bd_rate(rates, values, our_rates, our_values, method))
            except BDRateError as reason:
                entry |= {"percent": None, "reason": str(reason)}
            found.append(entry)
    return found
