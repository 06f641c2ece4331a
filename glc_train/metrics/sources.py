"""Where a metric comes from: its class, the package that computes it, and the weights that it has."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from importlib import metadata
from typing import Any

from torch import nn

from glc_train.backbones import digest
from glc_train.metrics.facts import MetricSource
from glc_train.metrics.fidelity import ms_ssim

_PACKAGES = {ms_ssim: "torchmetrics"}  # of functions of ours that hand on what another package computes


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
