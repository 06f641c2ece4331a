"""`glc data`: public data sets, prepared, verified and listed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glc_train.cli import shards
from glc_train.cli.errors import CommandError

if TYPE_CHECKING:
    from glc_train.datasets import Manifest

ROOT_VARIABLE = "GLC_DATA"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `data` with its own commands."""
    data = commands.add_parser("data", help="data sets: prepare public ones, verify, list; shards")
    ours = data.add_subparsers(required=True, metavar="COMMAND")

    prepare = ours.add_parser("prepare", help="download a public set, or take it from what you have; or complete it")
    prepare.add_argument("name", metavar="NAME", help="see glc data list")
    prepare.add_argument(
        "--root", type=Path, metavar="DIR", help=f"folder of all sets, in which NAME is made; default: ${ROOT_VARIABLE}"
    )
    prepare.add_argument(
        "--from", dest="source", type=Path, metavar="PATH",
        help="folder (with archives or without) or archive that you have; files are linked where the disk is the same",
    )  # fmt: skip
    prepare.add_argument("--split", action="append", default=[], metavar="NAME", help="may be repeated; default: all")
    prepare.add_argument("--count", type=int, metavar="N", help="size of the sample, for a set that is drawn")
    prepare.add_argument("--seed", type=int, default=0, metavar="S", help="that it is drawn with; default: 0")
    prepare.add_argument("--jobs", type=int, default=8, metavar="N", help="downloads at once; default: 8")
    prepare.set_defaults(does=f"{__name__}:_prepare", extra="eval")

    verify = ours.add_parser("verify", help="read all files of a prepared set and compare them with its manifest")
    verify.add_argument("folder", type=Path, metavar="DIR", help="with a manifest.json")
    verify.set_defaults(does=f"{__name__}:_verify", extra="eval")

    show = ours.add_parser("list", help="the public sets that can be prepared")
    show.set_defaults(does=f"{__name__}:_list", extra="eval")

    shards.add_commands(ours)


def _prepare(args: argparse.Namespace) -> int:
    from glc_train.datasets import Options, prepare
    from glc_train.datasets.download import Fetcher

    root = args.root or os.environ.get(ROOT_VARIABLE)
    if not root:
        raise CommandError(f"No folder for data sets was named: give --root DIR, or set {ROOT_VARIABLE} to it.")
    if args.jobs < 1:
        raise CommandError(f"--jobs {args.jobs}: give 1 or more.")
    options = Options(args.source, args.count, args.seed, sys.stderr.isatty(), Fetcher(args.jobs))
    manifest = prepare(args.name, Path(root).expanduser(), args.split, options)
    print(f"{Path(root) / args.name}: {_counts(manifest)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from glc_train.datasets import check_folder

    manifest = check_folder(args.folder)
    print(f"{args.folder}: {_counts(manifest)}: all {len(manifest.files)} files are as prepared")
    return 0


def _list(args: argparse.Namespace) -> int:
    from glc_train.datasets import SETS

    for each in SETS.values():
        print(f"{each.name:<12}{each.about}\n{'':12}licence: {each.licence}")
        print(f"{'':12}{'by hand, with --from: ' + each.owner if each.owner else 'downloaded'}")
    return 0


def _counts(manifest: Manifest) -> str:
    counts = ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    return f"{manifest.name}, {counts}"
