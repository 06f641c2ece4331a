"""Results in files → plots and tables for a paper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glc_train.evaluation.bd_rate import Method
from glc_train.evaluation.curves import Curve, comparable, compare, load_published, metrics_of
from glc_train.evaluation.output import RESULTS
from glc_train.evaluation.rate_plot import plot_rate_distortion
from glc_train.evaluation.result_files import ResultFile, read_results, write_compressai
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.tables import bd_table, rate_table
from glc_train.files import write_text

_SUFFIXES = ("png", "svg", "pdf")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


def write_figures(
    paths: Sequence[Path],
    out: Path,
    *,
    metrics: Sequence[str] = (),
    published: bool = False,
    dataset: str | None = None,
    method: Method = "pchip",
    compressai: bool = False,
) -> tuple[list[Path], str | None]:
    """Write `rate_distortion` as PNG, SVG and PDF, and `tables` as Markdown and LaTeX.

    Args:
        paths: files of results, see `read_results`.
        out: folder; files of these names in it are replaced.
        metrics: a panel and a column for each; none: all that were measured.
        published: whether to add the published curves on the data set, and BD-rates against them.
        dataset: its name, where no file says it.
        method: of the BD-rates.
        compressai: whether to write each measured curve in CompressAI's format too.

    Returns:
        The files, and a sentence about published curves that are left out, if they are.

    Raises:
        EvaluationError: a file has no results, they cannot stand in one plot, or have no such metric.
        ValueError: there are no published curves on the data set.
        OSError: a file cannot be read or written.
    """
    files = _named([read_results(path) for path in paths])
    measured = [curve for file in files for curve in file.curves]
    dataset, extent = _one_dataset(files, dataset), _one_extent(files)
    metrics = _checked(metrics, measured, paths)
    theirs, reason = _published(dataset, extent) if published else ([], None)
    theirs = [curve for curve in theirs if set(curve.metrics) & set(metrics)]
    bd_rates = [
        entry
        for curve in (file.curves[0] for file in files)  # the codec under test; after it come its baselines
        for entry in compare(curve, [*theirs, *measured[measured.index(curve) + 1 :]], method)
        if entry["metric"] in metrics
    ]
    title = ", ".join(filter(None, (dataset, extent.extent if extent else None)))
    plots = [out / f"rate_distortion.{suffix}" for suffix in _SUFFIXES]
    for path in plots:
        plot_rate_distortion(measured, theirs, path, title, metrics)
    tables = (rate_table([*measured, *theirs], metrics), bd_table(bd_rates, method))
    texts = {
        out / "tables.md": "\n".join(table.markdown() for table in tables),
        out / "tables.tex": "\n".join(table.latex() for table in tables),
    }
    for path, text in texts.items():
        write_text(path, text)
    exported = {out / f"{_NOT_IN_NAMES.sub('_', each.name)}.compressai.json": each for each in measured}
    for path, curve in exported.items() if compressai else ():
        write_compressai(curve, path)
    return [*plots, *texts, *(exported if compressai else ())], reason


def _checked(metrics: Sequence[str], measured: Sequence[Curve], paths: Sequence[Path]) -> Sequence[str]:
    known = metrics_of(measured)
    if not known:
        raise EvaluationError(f"{paths[0]} has rates alone: evaluate with the metrics to plot.")
    for metric in metrics:
        if metric not in known:
            raise EvaluationError(f"No curve has the metric {metric}: choose among {', '.join(known)}.")
    return metrics or known


def _published(dataset: str | None, extent: Curve | None) -> tuple[list[Curve], str | None]:
    if dataset is None:
        raise EvaluationError("No file says which data set it is of: name it with --dataset for the published curves.")
    curves = load_published(dataset)
    if extent is None:
        return curves, f"No file says how much it is of: the published curves are of {curves[0].extent}."
    return comparable(extent, curves)


def _one_dataset(files: Sequence[ResultFile], dataset: str | None) -> str | None:
    named = {each.dataset: each.path for each in files if each.dataset is not None}
    if len(named) > 1:
        (one, first), (other, second) = list(named.items())[:2]
        raise EvaluationError(f"{first} is of {one} and {second} of {other}: plot them apart.")
    return dataset or next(iter(named), None)


def _named(files: Sequence[ResultFile]) -> list[ResultFile]:
    """The files, with curves whose names differ: of several files also the file's, or its folder's."""
    if len(files) == 1:
        return list(files)
    short = [each.path.resolve().parent.name if each.path.name == RESULTS else each.path.stem for each in files]
    counts = Counter(short)
    labels = [label if counts[label] == 1 else str(file.path) for label, file in zip(short, files, strict=True)]
    return [
        replace(file, curves=tuple(replace(curve, name=f"{curve.name} ({label})") for curve in file.curves))
        for label, file in zip(labels, files, strict=True)
    ]


def _one_extent(files: Sequence[ResultFile]) -> Curve | None:
    """A curve that says how much it is of, as all do that say it; None where none does."""
    known = {each.extent: (file, each) for file in files for each in file.curves if each.items}
    if len(known) > 1:
        (first, one), (second, other) = list(known.values())[:2]
        raise EvaluationError(
            f"{one.name} of {first.path} is of {one.extent} and {other.name} of {second.path} of {other.extent}: "
            "evaluate both on the same."
        )
    return next((curve for _, curve in known.values()), None)
