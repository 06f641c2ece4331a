"""`glc report`: one page of one or several evaluations, of what lies beside their results."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `report`."""
    command = commands.add_parser("report", help="one page (HTML) of the results of one or several evaluations")
    command.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="a results.json or its folder; other files are found beside",
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html beside the results, or here if several"
    )
    command.add_argument("--published", metavar="SET", help="published curves to draw; default: those of the data set")
    command.add_argument("--max-mb", type=float, default=10.0, metavar="N", help="megabytes of the page; default: 10")
    command.set_defaults(does=f"{__name__}:report", extra="eval")


def report(args: argparse.Namespace) -> int:
    """`glc report`; returns the exit code."""
    from glc_train.evaluation import load_published, published_datasets, write_report_page
    from glc_train.report import load_run

    runs = [load_run(path) for path in args.results]
    out = args.out or Path(runs[0].folder if len(runs) == 1 else "", "report.html")
    data_sets = {run.facts.get("dataset") for run in runs}
    known = data_sets.pop() if len(data_sets) == 1 else None
    name = args.published or (known if known in published_datasets() else None)
    write_report_page(out, args.results, load_published(name) if name else [], largest=int(args.max_mb * 1e6))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0
