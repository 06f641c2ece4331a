"""What an evaluation leaves behind, of pictures and clips alike: results, plot, and the summary on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from glc_train.evaluation.comparison import as_curve, compare
from glc_train.evaluation.curves import Curve
from glc_train.evaluation.gaps import explain_gaps
from glc_train.evaluation.output import RESULTS
from glc_train.evaluation.plots import has_metric, plot_rate_distortion
from glc_train.evaluation.results import Results, RunFacts, write_csv, write_json
from glc_train.evaluation.table import COLUMNS, print_means
from glc_train.files import printable


def write_report(
    out: Path,
    facts: RunFacts,
    results: Sequence[Results],
    published: Sequence[Curve],
    metrics: Sequence[str],
    noun: str,
) -> None:
    """Write ``results.json``, ``results.csv`` and ``rate_distortion.png``, and print what they say.

    Args:
        out: folder.
        facts: of the run, with what was left out.
        results: of the codec, then of each baseline.
        published: curves to compare with.
        metrics: that were asked for.
        noun: what was measured, "pictures" or "clips".
    """
    count = len({each.name for each in results[0].measured})
    title = f"{facts.dataset}, {count} {noun}"
    curves = [as_curve(each) for each in results]
    bd_rates = compare(curves[0], [*published, *curves[1:]])
    facts = replace(facts, notes=tuple(explain_gaps(results, metrics)))
    write_json(out / RESULTS, facts, results, bd_rates)
    write_csv(out / "results.csv", results)
    if has_metric(curves):  # bytes alone can be evaluated too
        plot_rate_distortion(curves, published, out / "rate_distortion.png", title)
    console = print_means(results, title)
    _print_bd_rates(console, bd_rates)
    for note in facts.notes:
        console.print(note)
    if facts.left_out:
        names = ", ".join(printable(each.name) for each in facts.left_out)
        console.print(f"{len(facts.left_out)} of {count + len(facts.left_out)} {noun} were left out: {names}.")
    console.print(f"results: {printable(out)}", soft_wrap=True)


def _print_bd_rates(console: Console, bd_rates: Sequence[dict[str, Any]]) -> None:
    refused = []
    for entry in bd_rates:
        what = f"{COLUMNS[entry['metric']]} against {entry['anchor']}"
        if entry["percent"] is None:
            refused.append(what)
        else:
            console.print(f"BD-rate at equal {what}: {entry['percent']:+.1f}% (overlap {100 * entry['share']:.0f}%)")
    if refused:
        console.print(f"No BD-rate for {', '.join(refused)}: results.json says why.")
