"""`glc demo`: a page in the browser on which pictures and clips are coded, looked at and compared."""

from __future__ import annotations

import argparse


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], coding: argparse.ArgumentParser) -> None:
    """Add `demo`, with the options of all that codes."""
    demo = commands.add_parser(
        "demo", parents=[coding], help="a page in the browser: pictures and clips coded, looked at and compared"
    )
    demo.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on; default: 127.0.0.1, this machine alone"
    )
    demo.add_argument("--port", type=_count, metavar="N", help="default: the first that is free from 7860 on")
    demo.add_argument("--max-mb", type=_count, default=50, metavar="N", help="megabytes of an upload; default: 50")
    demo.add_argument(
        "--max-pixels", type=_count, default=1_500_000, metavar="N",
        help="larger pictures and frames are made smaller, larger coded files refused; default: 1500000",
    )  # fmt: skip
    demo.add_argument("--max-frames", type=_count, default=48, metavar="N", help="of a clip; default: 48")
    demo.add_argument(
        "--max-seconds", type=_count, default=120, metavar="S",
        help="after which effort ends, clips are cut, and other codecs are left out; default: 120",
    )  # fmt: skip
    demo.set_defaults(does="glc_train.cli.demo.server:serve", extra="demo")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return int(text)
