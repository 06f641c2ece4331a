"""Command lines of the programs that make weights of others: `python -m glc_train.weights.NAME IN OUT`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from glc_train.errors import is_for_user, sentence


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """With the two files, as `source` and `target`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN", help="an export or a checkpoint")
    parser.add_argument("target", type=Path, metavar="OUT", help="the .safetensors file to write")
    return parser


def run(parser: argparse.ArgumentParser, make: Callable[..., None]) -> int:
    """Calls `make` with all arguments of the command line; returns the exit code."""
    options = parser.parse_args()
    try:
        make(**vars(options))
    except Exception as error:
        if not is_for_user(error):
            raise
        print(sentence(error), file=sys.stderr)
        return 1
    return 0
