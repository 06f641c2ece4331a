"""All metrics of one picture at once, on 8-bit pictures: what an evaluation calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric as TorchMetric

from glc_train.metrics.facts import MetricSource
from glc_train.metrics.sources import source_of


class ClipScores(Protocol):
    """A metric of one clip, a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, original: np.ndarray, decoded: np.ndarray) -> None:
        """Frames uint8 (H, W, 3), one after the other."""

    def scores(self) -> list[float]:
        """A figure for each."""
        ...


class ClipMetric(Protocol):
    """A metric that looks at more than one frame."""

    def start(self, height: int, width: int) -> ClipScores | None:
        """For one clip; None where it cannot be computed."""


Metric = Callable[[Tensor, Tensor], Tensor | None]
"""Original and decoded picture, (1, 3, H, W) in [0, 1] → one number, or `None` where it cannot be computed.

Functions, modules, and the full-reference metrics of torchmetrics are such.
"""


def to_tensor(picture: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Turn an (H, W, 3) uint8 picture into a (1, 3, H, W) float tensor in [0, 1]."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"A picture is (H, W, 3) uint8 RGB, not {picture.shape} {picture.dtype}.")
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None].float() / 255


class PictureMetrics:
    """Measures decoded pictures against their originals.

    Args:
        metrics: by the names that their figures get, such as `{"psnr": psnr, "lpips": LPIPS()}`.
        device: where those that are modules run.
    """

    def __init__(self, metrics: Mapping[str, Metric | ClipMetric], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.metrics: dict[str, Any] = {
            name: metric.to(self.device).eval() if isinstance(metric, nn.Module) else metric
            for name, metric in metrics.items()
        }

    def sources(self) -> dict[str, MetricSource]:
        """Where each metric comes from, by name."""
        return {name: source_of(metric) for name, metric in self.metrics.items()}

    @torch.no_grad()
    def measure(self, original: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
        """Compares two (H, W, 3) uint8 RGB pictures of one size.

        Returns:
            Figures by name, infinite or NaN where they are; None where a metric cannot be computed, or is of clips.

        Raises:
            ValueError: they are no such pictures, or a metric gave more than one number.
        """
        a, b = to_tensor(original, self.device), to_tensor(decoded, self.device)
        return {
            name: None if hasattr(metric, "start") else _number(name, metric, a, b)
            for name, metric in self.metrics.items()
        }

    def start_clip(self, height: int, width: int) -> dict[str, ClipScores]:
        """What measures a clip as a whole, by the names of the figures that `measure` leaves None."""
        started = {n: m.start(height, width) for n, m in self.metrics.items() if hasattr(m, "start")}
        return {name: scores for name, scores in started.items() if scores is not None}


def _number(name: str, metric: Metric, original: Tensor, decoded: Tensor) -> float | None:
    value = metric(original, decoded)
    if isinstance(metric, TorchMetric):
        metric.reset()  # else it gathers all that it has seen
    if value is None:
        return None
    if torch.as_tensor(value).numel() != 1:
        raise ValueError(f"the metric {name} gave {tuple(value.shape)} values for one picture instead of one")
    return float(value)
