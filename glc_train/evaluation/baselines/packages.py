"""Packages that only some codecs need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from glc_train.evaluation.results import EvaluationError


def needed(module: str, package: str, what: str, extra: str = "baselines") -> Any:
    """The module, imported.

    Raises:
        EvaluationError: it is missing; names the package, and `extra`, the one of ours that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise EvaluationError(
            f"{what} needs the package {package}: install it (pip install 'glc_train[{extra}]'), or leave this codec "
            "out."
        ) from error
