"""`glc export`: encoder or decoder as a graph for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from glc_train.cli.told import add_json, print_record


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], trusting: argparse.ArgumentParser
) -> None:
    """Add `export`, with the options of all that reads weights."""
    export = commands.add_parser(
        "export", parents=[trusting], help="encoder or decoder of pictures as ONNX, or as .pt2 of torch.export"
    )
    export.add_argument("part", choices=("encoder", "decoder"), help="picture to latent, or latent to picture")
    export.add_argument("output", type=Path, metavar="OUT", help="a file that ends in .onnx or .pt2")
    export.add_argument(
        "--weights", type=Path, metavar="FILE", help="export, checkpoint or name; default: the installed ones"
    )
    export.add_argument("--overwrite", action="store_true", help="replace a file that exists (default: keep it)")
    said = export.add_mutually_exclusive_group()
    add_json(said)
    said.add_argument("-q", "--quiet", action="store_true", help="print nothing but what went wrong")
    export.set_defaults(does=f"{__name__}:_export", skip_existing=False)


def _export(args: argparse.Namespace) -> int:
    from glc_train.cli.files import check_new
    from glc_train.graph_export import check_name, export_network
    from glc_train.weights import load_codec

    check_name(args.output)
    check_new(args.output, args)
    made = export_network(load_codec(args.weights, trusted=args.trusted), args.part, args.output)
    if args.json:
        print_record({"file": str(args.output), **vars(made.facts), "difference": made.difference})
    elif not args.quiet:
        print(
            f"{args.output}: {args.part} of the weights {made.facts.weights or made.facts.fingerprint}; differs from "
            f"the network by {made.difference:.1g} at most, where the largest value is {made.largest:.2g}"
        )
    return 0
