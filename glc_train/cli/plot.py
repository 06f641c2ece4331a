"""`glc plot`: plots and tables from files of results."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plot`."""
    plot = commands.add_parser("plot", help="plots and tables of results, for a paper")
    plot.add_argument(
        "results",
        type=Path,
        nargs="+",
        metavar="RESULT.json",
        help="results.json of evaluate.py or its folder, or CompressAI's results",
    )
    plot.add_argument(
        "--metric", action="append", default=[], metavar="NAME",
        help="such as dists; may be given several times; default: all that were measured",
    )  # fmt: skip
    plot.add_argument(
        "--published", action="store_true", help="add the published curves on the data set, and BD-rates against them"
    )
    plot.add_argument("--dataset", metavar="NAME", help="of results that do not say it, such as kodak")
    plot.add_argument(
        "--interpolation", choices=("pchip", "akima"), default="pchip", help="of BD-rates; default: pchip"
    )
    plot.add_argument("--to-compressai", action="store_true", help="write the curves as CompressAI's results too")
    plot.add_argument("--out", type=Path, default=Path("plots"), metavar="DIR", help="default: plots")
    plot.set_defaults(does=f"{__name__}:_plot", extra="eval")


def _plot(args: argparse.Namespace) -> int:
    from glc_train.evaluation import write_figures

    written, reason = write_figures(
        args.results,
        args.out,
        metrics=args.metric,
        published=args.published,
        dataset=args.dataset,
        method=args.interpolation,
        compressai=args.to_compressai,
    )
    for path in written:
        print(path)
    if reason:
        print(reason)
    return 0
