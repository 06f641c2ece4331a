"""Rate-distortion curves, ours and the published ones that travel with this package, and their BD-rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from glc_train.evaluation.bd_rate import BDRateError, bd_rate
from glc_train.evaluation.results import CodecResults
from glc_train.metrics import TITLES


@dataclass(frozen=True)
class Curve:
    """Points of one codec: mappings with `bpp` and values of metrics by name.

    `note` says where the points come from and what their rate counts.
    """

    name: str
    points: tuple[dict[str, float], ...]
    note: str = ""

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
    """Published curves on `kodak`, `clic2020` or `div2k`; on video by `video/<data set>`.

    Raises `ValueError` for another name.
    """
    name, _, part = dataset.partition("/")
    if name not in published_datasets():
        raise ValueError(
            f"There are no published curves for {dataset!r}: choose among {', '.join(published_datasets())}."
        )
    text = (resources.files("glc_train.evaluation") / "published" / f"{name}.json").read_text(encoding="utf-8")
    content = json.loads(text)
    codecs = content.get("codecs") or content["datasets"].get(part)
    if codecs is None:
        raise ValueError(f"Name one of {', '.join(f'{name}/{each}' for each in content['datasets'])}, not {dataset!r}.")
    note = f"{content['note']} ({content['source']})"
    return [Curve(codec, tuple(points), note) for codec, points in codecs.items()]


def as_curve(results: CodecResults) -> Curve:
    """Means of a codec as a curve over bytes on disk."""
    points = (
        {name: value for name in ("bpp", *mean.scores) if (value := mean.figures[name]) is not None}
        for mean in results.means
    )
    return Curve(results.codec, tuple(points), "rate: bytes on disk")


def metrics_of(curves: Sequence[Curve]) -> list[str]:
    """Metrics that any of the curves has: the known ones in the order of `TITLES`, then those of one's own."""
    found = dict.fromkeys(name for curve in curves for name in curve.metrics)
    return [*(name for name in TITLES if name in found), *(name for name in found if name not in TITLES)]


def compare(ours: Curve, anchors: Sequence[Curve]) -> list[dict[str, Any]]:
    """BD-rates of `ours` against each anchor and metric both have; where refused, `percent` is `None`."""
    found = []
    for anchor in anchors:
        for metric in metrics_of([ours]):
            (rates, values), (our_rates, our_values) = anchor.series(metric), ours.series(metric)
            if not rates:
                continue
            entry: dict[str, Any] = {"codec": ours.name, "anchor": anchor.name, "metric": metric}
            try:
                entry |= asdict(bd_rate(rates, values, our_rates, our_values))
            except BDRateError as reason:
                entry |= {"percent": None, "reason": str(reason)}
            found.append(entry)
    return found
