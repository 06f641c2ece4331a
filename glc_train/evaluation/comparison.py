"""Our results as curves, and their BD-rates against others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from glc_train.evaluation.bd_rate import BDRateError, bd_rate
from glc_train.evaluation.curves import Curve
from glc_train.evaluation.results import Results
from glc_train.metrics import METRIC_NAMES


def as_curve(results: Results) -> Curve:
    """Means of a codec as a curve over bytes on disk."""
    points = ({k: v for k, v in asdict(mean).items() if v is not None} for mean in results.means)
    return Curve(results.codec, tuple(points), "rate: bytes on disk")


def compare(ours: Curve, anchors: Sequence[Curve]) -> list[dict[str, Any]]:
    """BD-rates of ``ours`` against each anchor and metric both have; where refused, ``percent`` is ``None``."""
    found = []
    for anchor in anchors:
        for metric in (*METRIC_NAMES, "fid"):
            (rates, values), (our_rates, our_values) = anchor.series(metric), ours.series(metric)
            if not rates or not our_rates:
                continue
            entry: dict[str, Any] = {"codec": ours.name, "anchor": anchor.name, "metric": metric}
            try:
                entry |= asdict(bd_rate(rates, values, our_rates, our_values))
            except BDRateError as reason:
                entry |= {"percent": None, "reason": str(reason)}
            found.append(entry)
    return found
