"""What an evaluation leaves behind: results, plots, and the summary on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glc_train.evaluation.curves import Curve, as_curve, comparable, compare, metrics_of
from glc_train.evaluation.gaps import FIGURES, explain_gaps, explain_misses, metric_facts
from glc_train.evaluation.output import RESULTS, TIMINGS
from glc_train.evaluation.plots import plot_over_frames
from glc_train.evaluation.rate_plot import plot_rate_distortion
from glc_train.evaluation.results import CodecResults, RunFacts, write_csv, write_json, write_timings
from glc_train.files import printable

_COLUMNS = FIGURES | {"encode_seconds": "encode s", "decode_seconds": "decode s"}
_NOT_IN_TABLE = ("ideal_bpp", "rate_gap", "kid", "patches")
_NARROWEST = 130  # characters; fewer would cut the numbers


def write_report(out: Path, facts: RunFacts, results: Sequence[CodecResults], published: Sequence[Curve]) -> None:
    """Write `results.json`, `timings.json`, `results.csv` and plots, and print what they say.

    Args:
        out: folder.
        facts: of the run, with the sources of metrics and what was left out.
        results: of the codec, then of each baseline, with something in them.
        published: curves to compare with, where they are of as much as `results`.
    """
    ours, noun = results[0], "pictures" if results[0].stills else "clips"
    names = list(dict.fromkeys(result.name for result in ours.results))
    title = f"{facts.dataset}, {len(names)} {noun}"
    curves = [as_curve(each) for each in results]
    published, reason = comparable(curves[0], published)
    bd_rates = compare(curves[0], [*published, *curves[1:]])
    metrics = metric_facts(facts.metrics, results)
    notes = [*facts.notes, *explain_gaps(results, metrics), *explain_misses(results), *([reason] if reason else [])]
    facts = replace(facts, metrics=metrics, notes=tuple(notes))
    write_json(out / RESULTS, facts, results, bd_rates)
    write_timings(out / TIMINGS, facts, results)
    write_csv(out / "results.csv", results)
    if metrics_of(curves):  # bytes alone can be evaluated too
        plot_rate_distortion(curves, published, out / "rate_distortion.png", title)
    if not ours.stills:
        (out / "frames").mkdir(exist_ok=True)
        for name in names:
            of_clip = [result for each in results for result in each.results if result.name == name]
            plot_over_frames(of_clip, out / "frames" / f"{name}.png")
    console = _print_means(results, title)
    _print_bd_rates(console, bd_rates)
    for note in facts.notes:
        console.print(note)
    if facts.left_out:
        left = ", ".join(printable(each.name) for each in facts.left_out)
        console.print(f"{len(facts.left_out)} of {len(names) + len(facts.left_out)} {noun} were left out: {left}.")
    console.print(f"results: {printable(out)}", soft_wrap=True)


def _print_means(results: Sequence[CodecResults], title: str) -> Console:
    """Prints what each codec has at each quality, columns without any value left out; returns where to print more."""
    means = [(each.codec, mean.quality, {**mean.figures, **mean.seconds}) for each in results for mean in each.means]
    found = dict.fromkeys(name for *_, figures in means for name, value in figures.items() if value is not None)
    used = [name for name in found if name not in _NOT_IN_TABLE]
    table = Table("codec", "q", *(_COLUMNS.get(name, name) for name in used), title=title)
    for codec, quality, figures in means:
        values = (figures[name] for name in used)
        table.add_row(codec, str(quality), *("-" if v is None else f"{v:.4f}" for v in values))
    console = Console(width=max(Console().width, _NARROWEST), highlight=False, markup=False)
    console.print(table)
    return console


def _print_bd_rates(console: Console, bd_rates: Sequence[dict[str, Any]]) -> None:
    refused = []
    for entry in bd_rates:
        what = f"{_COLUMNS.get(entry['metric'], entry['metric'])} against {entry['anchor']}"
        if entry["percent"] is None:
            refused.append(what)
        else:
            console.print(f"BD-rate at equal {what}: {entry['percent']:+.1f}% (overlap {100 * entry['share']:.0f}%)")
    if refused:
        console.print(f"No BD-rate for {', '.join(refused)}: results.json says why.")
