"""`glc weights`: which weights this machine has, and more of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from glc_train.cli.told import add_json, print_record


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], trusting: argparse.ArgumentParser
) -> None:
    """Add `weights` with its own commands, one of them with the options of all that reads weights."""
    weights = commands.add_parser("weights", help="weights: list those that are found by name, add some, say where")
    ours = weights.add_subparsers(required=True, metavar="COMMAND")

    show = ours.add_parser("list", help="names, kinds of codec, fingerprints, files")
    add_json(show)
    show.set_defaults(does=f"{__name__}:_list")

    add = ours.add_parser("add", parents=[trusting], help="keep a copy, so that files of these weights decode here")
    add.add_argument("file", type=Path, metavar="FILE", help="an export, a checkpoint, or the published .pth")
    add.add_argument("--name", metavar="NAME", help="default: that in the file, or the file's own")
    add.add_argument("--version", type=int, metavar="N", help="of the weights of that name; default: that in the file")
    add.set_defaults(does=f"{__name__}:_add")

    where = ours.add_parser("where", help="the folders that are searched, or the file of some weights")
    where.add_argument("name", nargs="?", metavar="NAME[@N]", help="of weights; default: all folders")
    where.set_defaults(does=f"{__name__}:_where")


def _list(args: argparse.Namespace) -> int:
    from glc_train.weights.store import stored

    rows = [
        (each.label, each.kind, "-" if each.checksum is None else f"{each.checksum & 0xFFFF:04x}", str(each.path))
        for each in stored()
    ]
    if args.json:
        for row in rows:
            print_record(dict(zip(("name", "kind", "fingerprint", "file"), row, strict=True)))
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _add(args: argparse.Namespace) -> int:
    from glc_train.weights.adding import add

    print(add(args.file, args.name, args.version, args.trusted))
    return 0


def _where(args: argparse.Namespace) -> int:
    from glc_train.weights.store import folders, located

    for path in folders() if args.name is None else [located(args.name)]:
        print(path)
    return 0
