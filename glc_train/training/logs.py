"""Reads the CSV logs of a stage over all its runs: Lightning's logger writes them and has no reader."""

import csv
from pathlib import Path


class LogError(ValueError):
    """A folder without readable logs, or a column that they do not have; says which and what to give instead."""


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """All that a stage logged: column → step → value, columns by name and steps rising.

    A resumed run writes the next `csv/version_N`; where steps were trained again, what was logged last counts.

    Args:
        folder: of the stage; holds `csv/`.

    Raises:
        LogError: no logs there, or a value that is no number.
    """
    numbers = (path.name.removeprefix("version_") for path in (folder / "csv").glob("version_*"))
    versions = sorted(int(number) for number in numbers if number.isdigit())
    files = [folder / "csv" / f"version_{number}" / "metrics.csv" for number in versions]
    files = [file for file in files if file.is_file()]  # a process killed before its first entry leaves none
    if not files:
        raise LogError(f"{folder} holds no csv/version_N/metrics.csv: give the folder of a stage, such as RUN/joint")
    curves: dict[str, dict[int, float]] = {}
    for file in files:
        # Without its line break a row may be cut in the middle of a number.
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        try:
            for row in csv.DictReader(line for line in lines if line.endswith("\n")):
                for name in (name for name, value in row.items() if value and name not in ("epoch", "step")):
                    curves.setdefault(name, {})[int(row["step"])] = float(row[name])
        except (KeyError, TypeError, ValueError) as error:
            raise LogError(f"the logs in {folder / 'csv'} are damaged: {error}") from error
    return {name: dict(sorted(curves[name].items())) for name in sorted(curves)}


def read_curve(folder: Path, column: str) -> dict[int, float]:
    """One logged curve of a stage, such as `train/loss`; see `read_curves`. A `LogError` where there is none."""
    curves = read_curves(folder)
    if column not in curves:
        raise LogError(f"{folder} never logged {column!r}; it has {', '.join(curves) or 'nothing'}")
    return curves[column]
