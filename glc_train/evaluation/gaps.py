"""Why figures that were asked for are missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from glc_train.evaluation.results import Results
from glc_train.evaluation.table import COLUMNS
from glc_train.files import printable
from glc_train.metrics import SMALLEST_SIDES

_FIGURES = {**COLUMNS, "ideal_bpp": "ideal bpp"}
_SHOWN = 5  # names in one sentence


def explain_gaps(codecs: Sequence[Results], metrics: Sequence[str]) -> list[str]:
    """One sentence for each metric that some picture or clip lacks, and for all figures that are not finite."""
    return [*_too_small(codecs[0], metrics), *(note for each in codecs for note in _not_finite(each))]


def _too_small(results: Results, metrics: Sequence[str]) -> list[str]:
    sides = {each.name: min(each.height, each.width) for each in results.measured}
    notes = []
    for metric in metrics:
        small = [name for name, side in sides.items() if side < SMALLEST_SIDES[metric]]
        if small:
            notes.append(
                f"No mean {COLUMNS[metric]}: it takes {SMALLEST_SIDES[metric]} pixels on each side, "
                f"which {len(small)} of {len(sides)} do not have ({_listed(small)})."
            )
    return notes


def _not_finite(results: Results) -> list[str]:
    notes = []
    for figure, title in _FIGURES.items():
        values = {f"{each.name} q{each.quality}": getattr(each, figure, None) for each in results.measured}
        bad = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
        if bad:
            lossless = ", as it is of equal pictures" if figure == "psnr" else ""
            notes.append(
                f"{title} of {results.codec} is not finite{lossless}: null for {_listed(bad)}, and in the means."
            )
    bad = [
        f"q{each.quality}" for each in results.means if getattr(each, "patches", None) is not None and each.fid is None
    ]
    if bad:
        notes.append(
            f"No FID of {results.codec} for {_listed(bad)}: fewer than two patches, or features that are not finite."
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(printable, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
