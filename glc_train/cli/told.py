"""What the commands say of what they did: lines for people, JSON for programs, or nothing."""

from __future__ import annotations

import argparse
import json
from typing import Any, TextIO


def add_json(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of text")


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that make a file of each of several."""
    said = parser.add_mutually_exclusive_group()
    add_json(said)
    said.add_argument("-q", "--quiet", action="store_true", help="print nothing but what went wrong")
    parser.add_argument(
        "--skip-existing", action="store_true", help="files that exist are kept and are no failure, as when going on"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="pictures at once, each in a process with its share of the cores and of the memory; default: 1",
    )  # fmt: skip


def print_record(record: dict[str, Any], file: TextIO | None = None) -> None:
    """Print one line of JSON to `file`, standard output by default; in ASCII, whatever the names of files hold."""
    print(json.dumps(record), file=file, flush=True)
