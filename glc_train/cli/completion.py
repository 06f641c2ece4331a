"""`glc completion`: what makes a shell complete commands, options and file names."""

from __future__ import annotations

import argparse
from pathlib import Path

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `completion`."""
    completion = commands.add_parser("completion", help="print what makes a shell complete commands and options")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(does=f"{__name__}:_completion")


def _completion(args: argparse.Namespace) -> int:
    import shtab

    from glc_train.cli import _parser
    from glc_train.cli.examples import parsers

    parser = _parser()
    for each in parsers(parser):
        each.epilog = None
        for action in each._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, args.shell))
    return 0
