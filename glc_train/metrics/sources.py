"""Where a metric comes from: its class, the package that computes it, and the weights that it has."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from torch import nn

from glc_train.backbones import digest
from glc_train.metrics.fidelity import ms_ssim

_PACKAGES = {ms_ssim: "torchmetrics"}  # of functions of ours that hand on what another package computes


@dataclass(frozen=True)
class MetricSource:
    """What makes two figures of one metric comparable.

    Attributes:
        target: class or function, with its module; None: unknown.
        package: the distribution that computes it; None: a module that belongs to none.
        version: of the package; of such a module the SHA-256 of its file.
        weights_sha256: of all weights and buffers, see `backbones.digest`; None: it has none.
        reason: why it has no figure at all; None: it has some.
    """

    target: str | None
    package: str | None
    version: str | None
    weights_sha256: str | None = None
    reason: str | None = None


def source_of(metric: Any) -> MetricSource:
    """The source of a metric or a feature network; a class of ours names the package that computes it as `package`."""
    while isinstance(metric, functools.partial):
        metric = metric.func
    if hasattr(metric, "metric_source"):
        found: MetricSource = metric.metric_source()
        return found
    kind = metric if inspect.isroutine(metric) or isinstance(metric, type) else type(metric)
    module = kind.__module__
    package = getattr(metric, "package", None) or _PACKAGES.get(metric) or _distribution(module)
    state = metric.state_dict() if isinstance(metric, nn.Module) else {}
    return MetricSource(
        target=f"{module}.{kind.__qualname__}",
        package=package,
        version=_file_sha256(module) if package is None else metadata.version(package),
        weights_sha256=digest(state) if state else None,
    )


@functools.cache
def _distribution(module: str) -> str | None:
    names = _distributions().get(module.partition(".")[0])
    return names[0] if names else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _file_sha256(module: str) -> str | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return None
    with open(file, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
