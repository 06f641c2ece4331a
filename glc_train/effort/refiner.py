"""Gradient steps on y (Campos et al., CVPR workshops 2019; Yang, Bamler and Mandt, NeurIPS 2020)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from glc_train.effort.distortion import Distortion, PerceptualMixture, weight_of
from glc_train.effort.target import Part, Target, scaled, windows, within
from glc_train.transform import PriorParameters, QuantiseStep, split_parameters

STEPS = (0, 2, 3, 5, 7, 10, 13, 17, 22, 28)
"""Gradient steps of each effort."""
HIGHEST_EFFORT = len(STEPS) - 1
_TRIES = 4  # of a λ of `choose_symbols`
_CLOSE = 0.995  # part of the bits that there may be
_STEEPNESS = 4.0  # bits fall about as λ^(-1/4)
_FIRST = 0.02  # λ that is tried first where there was none


@cache
def _default_distortion() -> Distortion:
    with torch.inference_mode(False):  # in which files are made, and whose tensors have no gradients
        return PerceptualMixture()


@dataclass
class Refiner:
    """Refines y for the picture at hand: less distortion at no more bits, the decoder as it is.

    Args:
        effort: 0 (nothing is done) to 9, see `STEPS`.
        distortion: what is to be lessened; None: `PerceptualMixture()`.
        seconds: no step of a picture or clip begins later than this after the first.
        progress: called with the steps done and the steps in all, of a picture or frame.
        learning_rate: of Adam on y at the first step; None: 0.1, from some six steps on less, as 0.25 / √steps: with a
            larger one they lead further from the start than the bits allow.
        decay: what part of it is left at the last step; it falls geometrically.
        rate_weight: of the rate in the loss, as part of what it may be; distortions are 1 each, times their weights.
        growth: how many bits of y there may be, in terms of those without any effort.
        side: in pixels; a picture of larger sides is refined in windows.
        clock: of several pictures, tries or frames that share `seconds`, see `timed`; None: each has them for itself.

    Raises:
        ValueError: no such effort.
    """

    effort: int
    distortion: Distortion | None = None
    seconds: float | None = None
    progress: Callable[[int, int], None] | None = None
    learning_rate: float | None = None
    decay: float = 0.2
    rate_weight: float = 2.0
    growth: float = 1.0
    side: int = 1024
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.effort <= HIGHEST_EFFORT:
            raise ValueError(f"the effort must be 0 to {HIGHEST_EFFORT}, not {self.effort}")
        if self.effort and self.distortion is None:
            self.distortion = _default_distortion()

    def timed(self) -> Refiner:
        """The same with a clock, which begins now: all that it refines is to end with it."""
        return replace(self, clock=Clock(self.seconds))

    def refine(self, target: Target) -> Tensor:
        """The refined y. An interruption (Ctrl-C) or the end of `seconds` ends it with the best so far.

        Args:
            target: what to refine.

        Returns:
            (1, C, h, w) float32: symbols are at the very values that rounding without `rdoq` chooses.
        """
        steps, distortion, y = STEPS[self.effort], self.distortion, target.y
        if distortion is None:
            return y
        clock = self.clock or Clock(self.seconds)
        with torch.inference_mode(False), torch.enable_grad():
            y = y.clone()
            factor = target.x.shape[-1] // y.shape[-1]
            parts = list(windows(y.shape[-2], y.shape[-1], self.side // factor, 64 // factor, target.multiple))
            noise = torch.Generator(y.device).manual_seed(0)  # so that the same picture gives the same file
            done = 0

            def count() -> None:
                nonlocal done
                done += 1
                if self.progress is not None:
                    self.progress(done, steps * len(parts))

            for window in parts:
                rows, columns = window.outer
                part = _Part(
                    target=target,
                    place=window.outer,
                    x=target.x[..., scaled(rows, factor), scaled(columns, factor)],
                    prior=split_parameters(target.prior.raw[..., rows, columns]),
                    distortion=distortion,
                    noise=noise,
                )
                refined = self._descend(part, y[..., rows, columns], steps, clock, count)
                top, left = (within(*each) for each in zip(window.inner, window.outer, strict=True))
                y[..., window.inner[0], window.inner[1]] = refined[..., top, left]
        return y

    def _descend(self, part: _Part, start: Tensor, steps: int, clock: Clock, count: Callable[[], None]) -> Tensor:
        """The best of the starting point and of what `steps` steps of Adam reach, as a decoder will have it."""
        if clock.ended:
            return part.rounded(start, part.target.rdoq)[0]
        y = start.clone().requires_grad_(True)
        rate = min(0.1, 0.25 / math.sqrt(steps)) if self.learning_rate is None else self.learning_rate
        optimiser = torch.optim.Adam([y], lr=rate)
        first = part.evaluate(y, part.target.rdoq, None)
        best, least, limit, rdoq, found = first.y_hat, first.value, self.growth * first.bits, part.target.rdoq, first
        decay = self.decay ** (1 / max(1, steps - 1))
        try:
            for number in range(steps):
                if clock.over():
                    break
                (y.grad,) = torch.autograd.grad(found.objective + self.rate_weight * found.priced / limit, y)
                if number == 0:  # else what hardly matters would move as far as what does
                    optimiser.param_groups[0]["eps"] = float(y.grad.square().mean().sqrt())
                optimiser.step()
                optimiser.param_groups[0]["lr"] *= decay
                count()
                rdoq = part.rdoq_within(y.detach(), limit, rdoq)
                found = part.evaluate(y, rdoq, first)
                if found.bits <= limit and found.value < least:
                    best, least = found.y_hat, found.value
        except KeyboardInterrupt:
            clock.ended = True
        return best


class Clock:
    """Knows when to stop: `seconds` after it was made, and after an interruption."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._start = time.monotonic()
        self.ended = False

    def over(self) -> bool:
        """Whether the time is up."""
        late = self._seconds is not None and time.monotonic() - self._start >= self._seconds
        self.ended = self.ended or late
        return self.ended


@dataclass(frozen=True)
class _Evaluation:
    objective: Tensor  # weighted distortions, in terms of the first ones
    terms: dict[str, float]
    bits: float  # of y, as they would be written
    y_hat: Tensor
    priced: Tensor  # bits with a gradient

    @property
    def value(self) -> float:
        return float(self.objective.detach())


@dataclass(frozen=True)
class _Part:
    """A window of the picture, and what judges it."""

    target: Target
    place: Part
    x: Tensor
    prior: PriorParameters
    distortion: Distortion
    noise: torch.Generator

    def evaluate(self, y: Tensor, rdoq: float, first: _Evaluation | None) -> _Evaluation:
        """Decodes y as a file would have it, straight-through; its rate is priced with uniform noise."""
        noise = torch.rand(y.shape, generator=self.noise, device=y.device) - 0.5
        step = QuantiseStep(y / self.prior.step, "mixed", noise, rdoq)
        y_hat = self.target.decode_y(self.prior, step)
        terms = self.distortion(self.target.decode(y_hat, self.place), self.x)
        values = {name: float(term.detach()) for name, term in terms.items()}
        base = first.terms if first else values
        weighted = [weight_of(self.distortion, n) * t / max(base[n], 1e-8) for n, t in terms.items()]
        objective = torch.stack(weighted).sum()
        bits, priced = step.bits()
        return _Evaluation(objective, values, float(bits), y_hat.detach(), priced.sum())

    @torch.no_grad()
    def rounded(self, y: Tensor, rdoq: float) -> tuple[Tensor, float]:
        """y as a decoder will have it, and its bits."""
        step = QuantiseStep(y / self.prior.step, "hard", rdoq=rdoq)
        y_hat = self.target.decode_y(self.prior, step)
        return y_hat, float(step.bits()[0])

    def rdoq_within(self, y: Tensor, limit: float, rdoq: float) -> float:
        """λ of `choose_symbols` with which y takes at most `limit` bits, and hardly less; `rdoq` is tried first."""
        low, high = (0.0, math.inf), (math.inf, 0.0)  # λ and bits: the last with too many, the first with few enough
        for _ in range(_TRIES):
            _, bits = self.rounded(y, rdoq)
            if bits > limit:
                low = (rdoq, bits) if rdoq >= low[0] else low
            else:
                high = min(high, (rdoq, bits))
                if bits > _CLOSE * limit or rdoq == 0:  # no λ gives more
                    break
            wanted = (1 + _CLOSE) / 2 * limit
            if low[1] < math.inf and high[0] < math.inf:  # between them bits fall about evenly
                rdoq = low[0] + (high[0] - low[0]) * (low[1] - wanted) / (low[1] - high[1])
            else:
                factor = (bits / wanted) ** _STEEPNESS
                rdoq = (max(rdoq, 0.005) if rdoq else _FIRST) * min(
                    4.0, max(factor, 1.05) if bits > limit else min(max(factor, 0.25), 0.95)
                )
        return high[0] if high[0] < math.inf else rdoq
