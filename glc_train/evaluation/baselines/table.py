"""A codec of the table of codecs by its name."""

from __future__ import annotations

from typing import cast

from glc_train.codec_groups import baseline_sections
from glc_train.evaluation.baselines.search import Baseline
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.settings import build


def load_baseline(name: str) -> Baseline:
    """A codec of the table. Raises EvaluationError where there is none of that name, or its package is missing."""
    sections = baseline_sections()
    if name not in sections:
        raise EvaluationError(f"There is no baseline {name!r}: choose among {', '.join(sections)}.")
    return cast(Baseline, build(name, sections[name]))
