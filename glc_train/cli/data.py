"""`glc data`: public data sets, prepared, verified and listed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from glc_train.cli import shards

Command = Callable[[argparse.Namespace], int]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `data` with its own commands."""
    data = commands.add_parser("data", help="data sets: prepare public ones, verify, list; shards")
    ours = data.add_subparsers(required=True, metavar="COMMAND")

    verify = ours.add_parser("verify", help="read all files of a prepared set and compare them with its manifest")
    verify.add_argument("folder", type=Path, metavar="DIR", help="with a manifest.json")
    verify.set_defaults(choose=lambda _: _verify)

    ours.add_parser("list", help="the public sets that can be prepared").set_defaults(choose=lambda _: _list)

    shards.add_commands(ours)


def _verify(args: argparse.Namespace) -> int:
    from glc_train.datasets import check_folder

    manifest = check_folder(args.folder)
    counts = ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    print(f"{args.folder}: {manifest.name}, {counts}: all {len(manifest.files)} files are as prepared")
    return 0


def _list(args: argparse.Namespace) -> int:
    from glc_train.datasets import SETS

    for each in SETS.values():
        print(f"{each.name:<12}{each.about}\n{'':12}licence: {each.licence}")
        print(f"{'':12}{'by hand, with --from: ' + each.owner if each.owner else 'downloaded'}")
    return 0
