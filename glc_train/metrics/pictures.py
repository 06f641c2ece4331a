"""All metrics of one picture at once, on 8-bit pictures: what an evaluation calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glc_train.metrics.fidelity import MS_SSIM_SMALLEST_SIDE, ms_ssim, psnr
from glc_train.metrics.perceptual import DISTS, LPIPS, SMALLEST_SIDE

METRIC_NAMES = ("psnr", "ms_ssim", "lpips", "dists")
SMALLEST_SIDES = {"psnr": 1, "ms_ssim": MS_SSIM_SMALLEST_SIDE, "lpips": SMALLEST_SIDE, "dists": SMALLEST_SIDE}
"""Pixels that each side of a picture must have for a metric."""


@dataclass(frozen=True)
class PictureScores:
    """Scores of one decoded picture; ``None``: not asked for, or a side is below ``SMALLEST_SIDES``.

    ``psnr`` in dB, infinite for equal pictures, ``ms_ssim`` in [0, 1] (higher is better); ``lpips`` (v0.1, AlexNet) and
    ``dists`` from 0 (lower is better).
    """

    psnr: float | None = None
    ms_ssim: float | None = None
    lpips: float | None = None
    dists: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Scores by name, in the order of ``METRIC_NAMES``."""
        return {name: getattr(self, name) for name in METRIC_NAMES}


def to_tensor(picture: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Turn an (H, W, 3) uint8 picture into a (1, 3, H, W) float tensor in [0, 1]."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"A picture is (H, W, 3) uint8 RGB, not {picture.shape} {picture.dtype}.")
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None].float() / 255


def _number(value: Tensor | None) -> float | None:
    return None if value is None else float(value)


class PictureMetrics:
    """Measures decoded pictures against their originals.

    Args:
        names: which of ``METRIC_NAMES`` to compute; the others stay ``None``.
        device: where the networks of LPIPS and DISTS run.
        folder: holds the ImageNet weights; see :mod:`glc_train.backbones`.

    Raises:
        ValueError: a name is unknown.
        BackboneError: LPIPS or DISTS was asked for and its ImageNet weights cannot be found.
    """

    def __init__(
        self,
        names: Iterable[str] = METRIC_NAMES,
        device: torch.device | str = "cpu",
        folder: Path | str | None = None,
    ) -> None:
        self.names = tuple(names)
        unknown = [name for name in self.names if name not in METRIC_NAMES]
        if unknown:
            raise ValueError(f"There is no metric named {unknown[0]!r}: choose among {', '.join(METRIC_NAMES)}.")
        self.device = torch.device(device)
        self._lpips = LPIPS(folder=folder).to(self.device) if "lpips" in self.names else None
        self._dists = DISTS(folder=folder).to(self.device) if "dists" in self.names else None

    def measure(self, original: np.ndarray, decoded: np.ndarray) -> PictureScores:
        """Compare two (H, W, 3) uint8 RGB pictures of one size; raises ``ValueError`` for anything else."""
        a, b = to_tensor(original, self.device), to_tensor(decoded, self.device)
        return PictureScores(
            psnr=_number(psnr(a, b)) if "psnr" in self.names else None,
            ms_ssim=_number(ms_ssim(a, b)) if "ms_ssim" in self.names else None,
            lpips=_number(self._lpips(a, b)) if self._lpips is not None else None,
            dists=_number(self._dists(a, b)) if self._dists is not None else None,
        )
