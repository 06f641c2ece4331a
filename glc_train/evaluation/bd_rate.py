"""Bjøntegaard difference of rate: how many per cent more or fewer bits one codec needs at equal quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

Method = Literal["pchip", "akima"]
"""Interpolation between a curve's points, piecewise cubic; PCHIP never leaves the range of two neighbours."""
_INTERPOLATORS: dict[str, Any] = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}


class BDRateError(ValueError):
    """Two curves cannot be compared: too few points, no overlap, or quality that does not grow with rate."""


@dataclass(frozen=True)
class BDRate:
    """Mean difference of rate over the range of the metric that both curves reach.

    `percent` is negative where the tested codec needs fewer bits. `low` and `high` bound the overlap in units of
    the metric; `share` is the overlap's width over that of both curves together, in (0, 1].
    """

    percent: float
    low: float
    high: float
    share: float


def _by_metric(rates: Sequence[float], values: Sequence[float], who: str) -> tuple[np.ndarray, np.ndarray]:
    if len(rates) != len(values) or len(rates) < 2:
        raise BDRateError(f"The {who} curve needs at least two points of rate and metric.")
    rate, value = np.asarray(rates, float), np.asarray(values, float)
    if not (np.isfinite(rate).all() and np.isfinite(value).all() and (rate > 0).all()):
        raise BDRateError(f"The {who} curve has a rate that is not positive or a value that is not finite.")
    order = np.argsort(rate)
    rate, value = rate[order], value[order]
    if (np.diff(rate) <= 0).any():
        raise BDRateError(f"The {who} curve has two points at one rate.")
    steps = np.diff(value)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise BDRateError(f"The {who} curve's metric does not change steadily with its rate.")
    return (rate, value) if steps[0] > 0 else (rate[::-1], value[::-1])


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_values: Sequence[float],
    test_rates: Sequence[float],
    test_values: Sequence[float],
    method: Method = "pchip",
) -> BDRate:
    """Bjøntegaard difference over log rate, piecewise cubic, integrated over the overlap of the metric.

    Args:
        anchor_rates, test_rates: bits per pixel, at least two points each, in any order.
        anchor_values, test_values: the metric at these rates; rising (PSNR) or falling (LPIPS) with rate.
        method: "pchip" or "akima".

    Raises:
        BDRateError: the curves do not overlap, run in opposite directions, or are not monotonic.
    """
    if method not in get_args(Method):
        raise ValueError(f"A BD-rate is interpolated by {' or '.join(get_args(Method))}, not {method}.")
    anchor_rate, anchor_value = _by_metric(anchor_rates, anchor_values, "anchor's")
    test_rate, test_value = _by_metric(test_rates, test_values, "tested")
    if (anchor_rate[-1] > anchor_rate[0]) != (test_rate[-1] > test_rate[0]):
        raise BDRateError("The metric rises with the rate on one curve and falls on the other.")
    low, high = max(anchor_value[0], test_value[0]), min(anchor_value[-1], test_value[-1])
    if high <= low:
        raise BDRateError(
            f"The curves do not overlap: the anchor covers {anchor_value[0]:.4g} to {anchor_value[-1]:.4g}, "
            f"the tested codec {test_value[0]:.4g} to {test_value[-1]:.4g}."
        )
    anchor_area = _INTERPOLATORS[method](anchor_value, np.log(anchor_rate)).integrate(low, high)
    test_area = _INTERPOLATORS[method](test_value, np.log(test_rate)).integrate(low, high)
    with np.errstate(over="ignore"):
        percent = 100 * float(np.expm1((test_area - anchor_area) / (high - low)))
    if not np.isfinite(percent):
        raise BDRateError(f"The curves overlap too little: from {low:.9g} to {high:.9g}.")
    union = max(anchor_value[-1], test_value[-1]) - min(anchor_value[0], test_value[0])
    return BDRate(percent, float(low), float(high), float((high - low) / union))
