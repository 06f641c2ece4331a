"""The pictures or clips of an evaluation: named, counted, and read once before the work begins."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from glc_train.evaluation.progress import progress_bar
from glc_train.evaluation.results import EvaluationError, LeftOut
from glc_train.evaluation.settings import EvaluationSettings
from glc_train.files import printable

_Item = TypeVar("_Item")


def labels(paths: Sequence[Path]) -> list[str]:
    """A distinct name for each file: its stem, with its folder's name where two stems agree.

    Raises:
        EvaluationError: two names agree even so.
    """
    stems = Counter(path.stem for path in paths)
    names = [path.stem if stems[path.stem] == 1 else f"{path.parent.name}_{path.stem}" for path in paths]
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise EvaluationError(f"Two files are both called {doubled[0]}: rename one of them.")
    return names


def readable(
    found: Sequence[_Item], read: Callable[[_Item], object], name: Callable[[_Item], str], settings: EvaluationSettings
) -> tuple[list[_Item], tuple[LeftOut, ...]]:
    """Those that can be read, of the first ``settings.limit``; the others are named on stderr at once.

    Args:
        found: what there is.
        read: decodes one, and raises ValueError or OSError where that fails.
        name: of one, for the results.
        settings: whether an unreadable one is left out or, with ``strict``, ends the evaluation.

    Raises:
        EvaluationError: one cannot be read and ``strict`` is set, or none can.
    """
    good, bad = [], []
    asked = found[: settings.limit]
    with progress_bar(settings.progress) as bar:
        for item in bar.track(asked, description="reading"):
            try:
                read(item)
                good.append(item)
            except (ValueError, OSError) as error:
                bad.append(LeftOut(name(item), str(error)))
    if bad and (settings.strict or not good):
        names = ", ".join(each.name for each in bad)
        raise EvaluationError(f"{len(bad)} of {len(asked)} files cannot be read ({names}), the first: {bad[0].reason}")
    for each in bad:
        print(f"left out: {printable(each.reason)}", file=sys.stderr)
    return good, tuple(bad)
