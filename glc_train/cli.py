"""The command `glc`: pictures to `.glc` files and back, and what is in a file."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from glc_train import __version__
from glc_train.bitstream import unpack_image
from glc_train.codecs import ImageCodec
from glc_train.data import find_pictures, read_picture, write_picture
from glc_train.data.pictures import SUFFIXES
from glc_train.weights import WeightsError, load_codec

SUFFIX = ".glc"
WEIGHTS_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")
PACKAGED = Path(__file__).parent / "pretrained"


class CommandError(ValueError):
    """What was asked cannot be done; says why and what to do."""


@dataclass(frozen=True)
class Job:
    """One file to read and the file to make of it."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Done:
    """What became of one file: size in pixels, bytes of the `.glc` file, quality, seconds in the codec, a remark."""

    width: int
    height: int
    size: int
    quality: int
    seconds: float
    remark: str = ""

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel of the picture."""
        return 8 * self.size / (self.width * self.height)


def default_weights() -> Path:
    """The weights that this installation carries.

    Raises:
        WeightsError: there are none, or several.
    """
    found = sorted(PACKAGED.glob("*.safetensors"))
    if not found:
        raise WeightsError(
            "This installation carries no weights: give --weights FILE, an export or checkpoint of train.py or the "
            "published .pth."
        )
    if len(found) > 1:
        raise WeightsError(f"Name the weights with --weights, one of: {', '.join(map(str, found))}")
    return found[0]


def plan(source: Path, target: Path, find: Callable[[Path], list[Path]], suffix: str) -> list[Job]:
    """Files to make.

    Args:
        source: a file, or a folder that is searched with `find`.
        target: a file, or a folder; always a folder where `source` is one. The names below it are those below `source`
            with `suffix`, which is appended where two files would get one name (a.png and a.jpg).

    Raises:
        CommandError: `source` is missing, or `target` of the wrong kind.
    """
    if not source.exists():
        raise CommandError(f"{source}: no such file or folder; check the path.")
    if not source.is_dir():
        return [Job(source, target / source.with_suffix(suffix).name if target.is_dir() else target)]
    if target.exists() and not target.is_dir():
        raise CommandError(f"{target} is a file, but {source} is a folder: name a folder to write to.")
    names = [path.relative_to(source) for path in find(source)]
    renamed = [name.with_suffix(suffix) for name in names]
    return [
        Job(source / name, target / (new if renamed.count(new) == 1 else name.with_name(name.name + suffix)))
        for name, new in zip(names, renamed, strict=True)
    ]


def find_coded(root: Path) -> list[Path]:
    """The `.glc` files below a folder, sorted. Raises CommandError if there is none."""
    found = sorted(p for p in root.rglob("*" + SUFFIX) if p.is_file() and not p.name.startswith("."))
    if not found:
        raise CommandError(f"{root}: no {SUFFIX} file in this folder; name the folder that `glc compress` wrote.")
    return found


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, replacing what was there; makes missing folders. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes the file private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def explain(error: Exception, path: Path | None = None) -> str:
    """One sentence for an error; names `path` where the error itself does not."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or path}: {error.strerror}; check the path and its rights."
    for subject in ("The data ", "The file ", "The coded data "):
        if path is not None and text.startswith(subject):
            return f"{path} {text.removeprefix(subject)}"
    return text if path is None or str(path) in text else f"{path}: {text}"


def _load(args: argparse.Namespace) -> ImageCodec:
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device cuda: PyTorch finds no CUDA device here; use --device cpu.")
    codec = load_codec(args.weights or default_weights(), device=device, dtype=getattr(torch, args.dtype))
    _ = codec.fingerprint  # prepares the exact arithmetic, which would count as the first file's time
    return codec


def compress_to_target(codec: ImageCodec, picture: np.ndarray, target_bpp: float) -> tuple[bytes, int, str]:
    """The largest file of at most `target_bpp` bits per pixel, else the smallest there is.

    Args:
        codec: the codec.
        picture: uint8 (H, W, 3).
        target_bpp: > 0, counted over the whole file.

    Returns:
        The file, its quality, and a remark about what was reached.
    """
    pixels = picture.shape[0] * picture.shape[1]
    files = [codec.compress(picture, quality) for quality in range(codec.quality_levels)]
    fitting = [q for q, data in enumerate(files) if 8 * len(data) <= target_bpp * pixels]
    if fitting:
        best = max(fitting, key=lambda q: len(files[q]))
        return files[best], best, f"target {target_bpp:g} bpp"
    best = min(range(len(files)), key=lambda q: len(files[q]))
    return files[best], best, f"over the target of {target_bpp:g} bpp"


def _read_with_remarks(path: Path) -> np.ndarray:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = read_picture(path)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"glc: {text}", file=sys.stderr)
    return picture


def _compress_one(codec: ImageCodec, job: Job, quality: int, target_bpp: float | None) -> Done:
    picture = _read_with_remarks(job.source)
    start, remark = time.perf_counter(), ""
    if target_bpp is None:
        data = codec.compress(picture, quality)
    else:
        data, quality, remark = compress_to_target(codec, picture, target_bpp)
    seconds = time.perf_counter() - start
    write_bytes(job.target, data)
    done = Done(picture.shape[1], picture.shape[0], len(data), quality, seconds, remark)
    if target_bpp is not None and done.bpp > target_bpp:
        print(f"glc: {job.source}: even the smallest file has {done.bpp:.4f} bpp, above the target.", file=sys.stderr)
    return done


def _decompress_one(codec: ImageCodec, job: Job) -> Done:
    data = job.source.read_bytes()
    quality = unpack_image(data)[0].quality
    start = time.perf_counter()
    picture = codec.decompress(data)
    seconds = time.perf_counter() - start
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_picture(job.target, picture)
    return Done(picture.shape[1], picture.shape[0], len(data), quality, seconds)


def _guarded(work: Callable[[Job], Done], job: Job) -> Done | str:
    """What `work` makes of the job, or one sentence about why it failed."""
    try:
        return work(job)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return explain(error, job.source)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        return f"{job.source}: too large for the memory of this device; use --device cpu, or a smaller picture."


def _line(job: Job, done: Done) -> str:
    remark = f"  ({done.remark})" if done.remark else ""
    return (
        f"{job.source} -> {job.target}  {done.width}x{done.height}  {done.size} bytes  {done.bpp:.4f} bpp  "
        f"quality {done.quality}  {done.seconds:.2f} s{remark}"
    )


def _run_all(jobs: Sequence[Job], work: Callable[[Job], Done], folder: bool) -> int:
    """Does every job, failed ones aside; prints a line for each; returns the exit code."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    progress: AbstractContextManager[Progress | None] = nullcontext()
    if folder and console.is_terminal:
        columns = (TextColumn("{task.percentage:3.0f}%"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=console, redirect_stderr=sys.stderr.isatty())
    finished: list[Done] = []
    with progress as bar:
        task = bar.add_task("", total=len(jobs)) if bar else None
        for job in jobs:
            outcome = _guarded(work, job)
            if isinstance(outcome, str):
                print(f"glc: {outcome}", file=sys.stderr)
            else:
                finished.append(outcome)
                console.print(_line(job, outcome))
            if bar and task is not None:
                bar.advance(task)
    failed = len(jobs) - len(finished)
    if folder:
        mean = f", mean {sum(done.bpp for done in finished) / len(finished):.4f} bpp" if finished else ""
        console.print(f"{len(finished)} of {len(jobs)} files done{mean}")
        if failed:
            print(f"glc: {failed} of {len(jobs)} files failed; they are named above.", file=sys.stderr)
    return 1 if failed else 0


def _compress(args: argparse.Namespace) -> int:
    jobs = plan(args.input, args.output, find_pictures, SUFFIX)
    folder = args.input.is_dir()
    if jobs[0].target.suffix != SUFFIX:
        raise CommandError(f"{args.output}: the name of a compressed picture ends in {SUFFIX}.")
    codec = _load(args)
    quality = codec.quality_levels // 2 if args.quality is None else args.quality
    if not 0 <= quality < codec.quality_levels:
        raise CommandError(f"--quality {quality}: these weights have the qualities 0 to {codec.quality_levels - 1}.")
    return _run_all(jobs, lambda job: _compress_one(codec, job, quality, args.target_bpp), folder)


def _decompress(args: argparse.Namespace) -> int:
    jobs = plan(args.input, args.output, find_coded, ".png")
    folder = args.input.is_dir()
    if jobs[0].target.suffix.lower() not in SUFFIXES:
        raise CommandError(f"{args.output}: the name of a picture ends in one of {', '.join(SUFFIXES)}.")
    if not folder:
        unpack_image(args.input.read_bytes(), str(args.input))  # a foreign file is no reason to load the weights
    codec = _load(args)
    return _run_all(jobs, lambda job: _decompress_one(codec, job), folder)


def _coded_row(path: Path) -> tuple[str, ...]:
    data = path.read_bytes()
    header, _ = unpack_image(data, str(path))
    bpp = 8 * len(data) / (header.width * header.height)
    size = f"{header.width}x{header.height}"
    fields = (path, header.version, "picture", size, header.quality, len(data), f"{bpp:.4f}")
    return (*map(str, fields), f"{header.fingerprint:04x}")


def _weights_row(path: Path) -> tuple[str, ...]:
    codec = load_codec(path)
    model, transform = codec.autoencoder, codec.transform
    uniform = bool((transform.z_counts == transform.z_counts[:1]).all())
    prior = ("uniform" if uniform else "fitted") if len(transform.z_counts) else "trained"
    fields = (
        path,
        f"{model.factor}x down, {model.latent_channels} channels, {model.quantiser.codes} codes",
        f"{transform.summary}, {codec.quality_levels} qualities",
        f"{sum(p.numel() for p in codec.parameters()):,}",
        prior,
    )
    return (*map(str, fields), f"{codec.fingerprint:04x}")


_CODED_COLUMNS = ("file", "version", "kind", "size", "quality", "bytes", "bpp", "weights")
_WEIGHTS_COLUMNS = ("file", "auto-encoder", "transform", "parameters", "z prior", "fingerprint")


def _info(args: argparse.Namespace) -> int:
    coded, weights, failed = Table(*_CODED_COLUMNS), Table(*_WEIGHTS_COLUMNS), False
    for path in args.files:
        try:
            if path.suffix in WEIGHTS_SUFFIXES:
                weights.add_row(*_weights_row(path))
            else:
                coded.add_row(*_coded_row(path))
        except (ValueError, OSError) as error:
            print(f"glc: {explain(error, path)}", file=sys.stderr)
            failed = True
    terminal = Console()
    # a table that is read by another program is not cut to the width of a terminal
    console = Console(highlight=False, markup=False, width=None if terminal.is_terminal else 1000)
    for table in (coded, weights):
        if table.row_count:
            console.print(table)
    return 1 if failed else 0


def _fetch_weights(args: argparse.Namespace) -> int:
    from glc_train import backbones  # a second of imports that the other commands do not need

    return backbones.main()


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="glc", description="Generative Latent Coding: pictures to files and back.")
    parser.add_argument("--version", action="version", version=f"glc_train {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    coding = argparse.ArgumentParser(add_help=False)
    coding.add_argument("--weights", type=Path, metavar="FILE", help="export or checkpoint of train.py, or .pth")
    coding.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if there")
    coding.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the auto-encoder")

    compress = commands.add_parser("compress", parents=[coding], help="picture to .glc file, or a folder of them")
    compress.add_argument("input", type=Path, metavar="IN", help="a picture, or a folder with its subfolders")
    compress.add_argument("output", type=Path, metavar="OUT", help="a .glc file, or a folder")
    rate = compress.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=int, metavar="Q", help="0 (fewest bits) and up; default: the middle")
    rate.add_argument("--target-bpp", type=_positive, metavar="B", help="the largest file of at most B bits per pixel")
    compress.set_defaults(run=_compress)

    decompress = commands.add_parser("decompress", parents=[coding], help=".glc file to picture, or a folder of them")
    decompress.add_argument("input", type=Path, metavar="IN", help="a .glc file, or a folder with its subfolders")
    decompress.add_argument("output", type=Path, metavar="OUT", help="a picture (.png keeps every pixel), or a folder")
    decompress.set_defaults(run=_decompress)

    info = commands.add_parser("info", help="what .glc files and weights files hold")
    info.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".glc, .safetensors, .ckpt or .pth")
    info.set_defaults(run=_info)

    fetch = commands.add_parser("fetch-weights", help="fetch the ImageNet weights of LPIPS and DISTS, for use offline")
    fetch.set_defaults(run=_fetch_weights)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `glc`.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        Exit code: 0; 1 if a file failed, named on stderr; 130 if interrupted. argparse exits with 2 by itself.
    """
    args = _parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone, and Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"glc: {explain(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
