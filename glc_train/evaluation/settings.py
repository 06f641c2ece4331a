"""What an evaluation is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glc_train.evaluation.results import RunFacts, fingerprint
from glc_train.metrics import METRIC_NAMES
from glc_train.precision import AUTO, dtype_of, name_of


@dataclass(frozen=True)
class EvaluationSettings:
    """What ``conf/evaluation`` says; see the comments there.

    ``data`` holds ``name``, ``root`` (``None``: the photographs that scikit-image and scikit-learn ship), ``expected``
    (number of pictures or ``None``) and ``published`` (name of published curves or ``None``). Where ``clips`` is true
    it is a data set of clips, with ``frames`` (how many of each count, or ``None``), ``only`` (their names, or
    ``None``) and ``size`` (width and height of raw video, or ``None``).
    """

    ckpt: str | None
    data: dict[str, Any]
    out: str
    qualities: Sequence[int] | None = None
    limit: int | None = None
    metrics: Sequence[str] = METRIC_NAMES
    baselines: Sequence[str] = ()
    device: str = "auto"
    dtype: str = AUTO
    save_pictures: bool = True
    inception: str | None = None
    patch_size: int = 256
    workers: int = 1
    progress: bool = True

    @property
    def torch_device(self) -> str:
        """``auto`` resolved."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def facts(self) -> RunFacts:
        """What makes the results of this evaluation, read when they are written."""
        return RunFacts(
            dataset=self.data["name"],
            checkpoint=self.ckpt,
            weights_sha256=fingerprint(self.ckpt) if self.ckpt else None,
            device=self.torch_device,
            dtype=name_of(dtype_of(self.dtype, self.torch_device)),
        )
