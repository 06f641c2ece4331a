"""Reads the CSV logs of a stage, over all the processes that wrote to it."""

import csv
from collections.abc import Iterator
from pathlib import Path


class LogError(ValueError):
    """A folder without readable logs, or a column that they do not have; says which and what to give instead."""


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    """All rows of all `csv/version_N`, oldest first."""
    versions = [path for path in (folder / "csv").glob("version_*") if path.name.removeprefix("version_").isdigit()]
    files = [v / "metrics.csv" for v in sorted(versions, key=lambda path: int(path.name.removeprefix("version_")))]
    files = [file for file in files if file.is_file()]  # a process killed before its first entry leaves none
    if not files:
        raise LogError(f"{folder} holds no csv/version_N/metrics.csv: give the folder of a stage, such as RUN/joint")
    for file in files:
        # Without its line break a row may be cut in the middle of a number.
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        yield from csv.DictReader(line for line in lines if line.endswith("\n"))


def columns(folder: Path) -> list[str]:
    """Names of all that a stage logged, sorted.

    Raises:
        LogError: the folder has no logs.
    """
    names = {name for row in _rows(folder) for name, value in row.items() if name and value}
    return sorted(names - {"epoch", "step"})


def read_curve(folder: Path, column: str) -> dict[int, float]:
    """A logged curve of a stage: step → value, by rising step.

    A resumed run writes the next `csv/version_N`; where steps were trained again, what was logged last counts.

    Args:
        folder: of the stage; holds `csv/`.
        column: such as `train/loss`.

    Raises:
        LogError: no logs there, no such column, or a value that is no number.
    """
    curve: dict[int, float] = {}
    for row in _rows(folder):
        value = row.get(column)
        if value:
            try:
                curve[int(row["step"])] = float(value)
            except (KeyError, TypeError, ValueError) as error:
                raise LogError(f"the logs in {folder / 'csv'} are damaged: {error}") from error
    if not curve:
        raise LogError(f"{folder} never logged {column!r}; it has {', '.join(columns(folder)) or 'nothing'}")
    return dict(sorted(curve.items()))
