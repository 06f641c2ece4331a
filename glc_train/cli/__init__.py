"""The command `glc`: pictures and clips to files and back, and what is in a file.

To add a command, write `glc_train/cli/NAME.py` with `add_command(commands)`, which defines its arguments and sets
`does="MODULE:FUNCTION"` as their default, and call it in `_parser`. The function takes the parsed arguments and returns
the exit code. It is imported when the command is called, and `NAME.py` itself for every `glc --help`: so what is heavy
(PyTorch, NumPy, anything that is not of Python's own library) is imported in the function, or the function stands in a
module of its own. `extra="NAME"` as another default names the extra of pyproject.toml that the command needs.
"""

from __future__ import annotations

import argparse
import io
import logging
import math
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from glc_train import __version__, extras
from glc_train.cli import compare, completion, data, demo, export, plot, report, weights
from glc_train.cli.errors import explain
from glc_train.cli.examples import add_examples
from glc_train.cli.told import add_file_options, add_json
from glc_train.errors import is_for_user
from glc_train.memory import parse


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})[xX×]([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 416x240")
    return int(match[1]), int(match[2])


def _count(text: str, of: str = "pixels") -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of {of}")
    return int(text)


def _memory(text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a frame rate such as 25 or 30000/1001")
    return rate


def _common_options() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, argparse.ArgumentParser]:
    """Options of all that reads weights, of all that codes, and of all that codes files."""
    trusting = argparse.ArgumentParser(add_help=False)
    trusting.add_argument(
        "--trusted", action="append", default=[], metavar="MODULE.CLASS",
        help="a network class of your own that weights may be made of; may be given several times",
    )  # fmt: skip
    coding = argparse.ArgumentParser(add_help=False, parents=[trusting])
    coding.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="export, checkpoint or name (`glc weights list`); default: the installed ones, to decode the file's own",
    )
    coding.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if there")
    coding.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16"), default="auto",
        help="of the auto-encoder; default: bfloat16 where the device computes it natively, else float32",
    )  # fmt: skip
    coding.add_argument(
        "--memory", type=_memory, metavar="SIZE",
        help="what the process may have of the device, as 4G; default: most of what is free. What does not fit as a "
        "whole is computed in stripes, with the same results",
    )  # fmt: skip
    files = argparse.ArgumentParser(add_help=False, parents=[coding])
    files.add_argument("--overwrite", action="store_true", help="replace files that exist (default: keep them)")
    files.add_argument(
        "--max-pixels", type=_count, metavar="N", help="largest picture or frame to code or decode; default: 89478485"
    )
    return trusting, coding, files


def _add_compress(commands: Any, files: argparse.ArgumentParser) -> None:
    compress = commands.add_parser("compress", parents=[files], help="picture or clip to file, or a folder of pictures")
    compress.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help="pictures, folders of them, a video, a folder of frames"
    )
    compress.add_argument(
        "output", type=Path, metavar="OUT", help="a .glc file or a folder; a .glcv file or - for a clip"
    )
    rate = compress.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=int, metavar="Q", help="0 (fewest bits) and up; default: the middle")
    rate.add_argument("--target-bpp", type=_positive, metavar="B", help="the largest file of at most B bits per pixel")
    compress.add_argument(
        "--effort", type=int, choices=range(10), default=0, metavar="N",
        help="0 to 9: gradient steps for a better picture of the same size in bytes; 9 takes minutes (default: 0)",
    )  # fmt: skip
    compress.add_argument("--effort-seconds", type=_positive, metavar="S", help="no step begins later than this")
    compress.add_argument(
        "--effort-distortion", metavar="MODULE.CLASS", help="what it lessens, of your own (default: docs/compress.md)"
    )
    compress.add_argument("--size", type=_size, metavar="WxH", help="of a clip that is raw .yuv, 8-bit 4:2:0")
    compress.add_argument(
        "--fps", type=_rate, metavar="F", help="frames per second of a clip that does not say, or not right"
    )
    compress.add_argument(
        "--intra-period", type=partial(_count, of="frames"), metavar="N",
        help="of a clip: every Nth frame is coded by itself (default: the first of each scene, and every 96th)",
    )  # fmt: skip
    add_file_options(compress)
    compress.set_defaults(does="glc_train.cli.compress:compress")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glc", description="Generative Latent Coding: pictures and clips to files and back."
    )
    parser.add_argument("--version", action="version", version=f"glc_train {__version__}")
    # A command names what does its work, to be imported then: PyTorch takes seconds that `glc --help` does not need.
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    trusting, coding, files = _common_options()
    _add_compress(commands, files)

    decompress = commands.add_parser("decompress", parents=[files], help="the way back")
    decompress.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help=".glc files, folders of them, a .glcv file, - for a clip"
    )
    decompress.add_argument(
        "output", type=Path, metavar="OUT", help="a picture (.png keeps all) or a folder of them; a video"
    )
    decompress.add_argument("--start", type=int, default=0, metavar="FRAME", help="of a clip: the first frame, from 0")
    add_file_options(decompress)
    decompress.set_defaults(does="glc_train.cli.decompress:decompress")

    show = commands.add_parser("info", parents=[trusting], help="what .glc, .glcv and weights files hold")
    show.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".glc, .glcv, .safetensors, .ckpt or .pth")
    add_json(show)
    show.set_defaults(does="glc_train.cli.info:info")

    fetch = commands.add_parser("fetch-weights", help="fetch the ImageNet weights of LPIPS and DISTS, for use offline")
    fetch.set_defaults(does="glc_train.backbones:fetch_weights", extra="eval")

    compare.add_command(commands, files)
    demo.add_command(commands, coding)
    data.add_commands(commands)
    export.add_command(commands, trusting)
    plot.add_command(commands)
    report.add_command(commands)
    weights.add_commands(commands, trusting)
    completion.add_command(commands)
    add_examples(parser)
    return parser


def main(arguments: Sequence[str] | None = None, ready: Callable[[], None] = lambda: None) -> int:
    """Runs `glc`.

    Args:
        arguments: of the command line; None: those of this process.
        ready: called between the imports and the work.

    Returns:
        Exit code: 0; 1 if a file failed or an old one was kept, named on stderr; 130 if interrupted. argparse exits
        with 2 by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8, nor characters of the terminal's
        sys.stdout.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(arguments)
    logging.basicConfig(format="glc: %(message)s")
    if not getattr(args, "quiet", False):
        logging.getLogger("glc_train.precision").setLevel(logging.INFO)  # what was chosen, and why
    try:
        if "extra" in args:
            extras.require(args.extra)
        command: Callable[[argparse.Namespace], int] = pkgutil.resolve_name(args.does)
        ready()
        code = command(args)
        print(end="", flush=True)  # does nothing where standard output was closed from the start
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_for_user(error):
            raise
        if not isinstance(error, BrokenPipeError):  # the reader of our output has gone
            print(f"glc: {explain(error)}", file=sys.stderr)
        try:
            print(end="", flush=True)
        except OSError:  # Python would complain again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
