"""`glc compare`: one picture by our codec and by others at the same bytes."""

from __future__ import annotations

import argparse
from pathlib import Path

from glc_train.cli.errors import CommandError


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], files: argparse.ArgumentParser) -> None:
    """Add `compare`, with the options of all that codes files."""
    compare = commands.add_parser(
        "compare", parents=[files], help="a sheet of a picture by this codec and by others at the same bytes"
    )
    compare.add_argument("input", type=Path, metavar="PICTURE")
    rate = compare.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=int, metavar="Q", help="of our file; default: the middle")
    rate.add_argument("--bytes", type=int, metavar="N", help="that each file may have at most")
    compare.add_argument(
        "--codecs",
        metavar="NAME,NAME",
        help="default: avif,vvc,heic,jxl,webp,jpeg2000,jpeg, of which the best are shown",
    )
    compare.add_argument("--out", type=Path, metavar="SHEET", help="a picture; default: PICTURE_compared.png")
    compare.set_defaults(does=f"{__name__}:_compare", extra="eval")


def _compare(args: argparse.Namespace) -> int:
    from glc_train.evaluation.sheet import CONTENDERS, compare_on_sheet
    from glc_train.media import read_picture
    from glc_train.media.pictures import SUFFIXES
    from glc_train.weights import load_codec

    out = args.out or args.input.with_name(f"{args.input.stem}_compared.png")
    if out.is_dir() or out.suffix.lower() not in SUFFIXES:
        raise CommandError(f"{out}: give --out the name of a picture file, ending in one of {', '.join(SUFFIXES)}.")
    if out.exists() and not args.overwrite:
        raise CommandError(f"{out} exists: give --overwrite to replace it, or another --out.")
    picture = read_picture(args.input)
    codec = load_codec(args.weights, "cpu" if args.device == "auto" else args.device, args.dtype, args.trusted)
    codec.limit_memory(args.memory)
    names = CONTENDERS if args.codecs is None else tuple(args.codecs.split(","))
    found, missing = compare_on_sheet(picture, codec, out, quality=args.quality, budget=args.bytes, contenders=names)
    for each in found:
        print(each.caption)
    for reason in missing:
        print(reason)
    print(out)
    return 0
