"""What the commands share: files that appear whole or not at all, weights, devices."""

from __future__ import annotations

import argparse
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from glc_train.bitstream import KIND_VIDEO, ImageHeader, VideoHeader, kind_of
from glc_train.cli.errors import CommandError
from glc_train.codecs import Codec, VideoCodec
from glc_train.files import replacing
from glc_train.media import FoundFiles
from glc_train.weights import find_codec, load_codec, load_video


@dataclass(frozen=True)
class Job:
    """One file to read and the file to make of it."""

    source: Path
    target: Path


def plan(
    source: Path, target: Path, find: Callable[[Path], FoundFiles], suffix: str
) -> tuple[list[Job], FoundFiles | None]:
    """Files to make, and what the search of a folder came to; `None` where `source` is a file.

    Args:
        source: a file, or a folder that is searched with `find`.
        target: a file, or a folder; always a folder where `source` is one. The names below it are those below `source`
            with `suffix`, which is appended where it would not be clear of which file it is (a.png and a.jpg).

    Raises:
        CommandError: `source` is missing, `target` of the wrong kind, or two names differ too little.
    """
    if not source.exists():
        raise CommandError(f"{source}: no such file or folder; check the path.")
    if not source.is_dir():
        return [Job(source, target / source.with_suffix(suffix).name if target.is_dir() else target)], None
    if target.exists() and not target.is_dir():
        raise CommandError(f"{target} is a file, but {source} is a folder: name a folder to write to.")
    found = find(source)
    try:
        names = distinct_names([path.relative_to(source) for path in found.files], suffix)
    except CommandError as error:
        raise CommandError(f"{source}: {error}") from error
    return [Job(path, target / name) for path, name in zip(found.files, names, strict=True)], found


def distinct_names(names: Sequence[Path], suffix: str) -> list[Path]:
    """Names with `suffix` in place of their own or, where another file could have that name too, after it.

    They are distinct also where a file system ignores case, or how accents are composed.
    Raises: CommandError if two of `names` differ in that alone.
    """
    replaced = [name.with_suffix(suffix) for name in names]
    appended = [name.with_name(name.name + suffix) for name in names]
    owners: dict[str, Path] = {}
    for name, long in zip(names, appended, strict=True):
        other = owners.setdefault(_folded(long), name)
        if other is not name:
            raise CommandError(f"{other} and {name} are one name to some file systems; rename one of them.")
    counts = Counter(map(_folded, replaced))
    return [
        short if counts[_folded(short)] == 1 and _folded(short) not in owners else long
        for short, long in zip(replaced, appended, strict=True)
    ]


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", str(path)).casefold())


def check_new(path: Path, overwrite: bool) -> None:
    """Raises CommandError if there is something at `path` that may not be replaced."""
    if path.exists() and not overwrite:
        raise CommandError(f"{path} exists already; name another file, or add --overwrite to replace it.")


@contextmanager
def remarks(path: Path) -> Iterator[None]:
    """Prints what reading `path` warns of as a sentence; other warnings as always."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        show = warnings.showwarning

        def tell(message: Warning | str, *place: Any, **more: Any) -> None:
            if str(message).startswith(str(path)):
                print(f"glc: {message}", file=sys.stderr)
            else:
                show(message, *place, **more)

        warnings.showwarning = tell
        yield


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes its place when the block ends without an exception. Raises OSError."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file


def is_clip(path: Path) -> bool:
    """Whether a file is a clip, by its name or its first byte."""
    if path.suffix.lower() == VideoCodec.suffix or not path.is_file():
        return path.suffix.lower() == VideoCodec.suffix
    with open(path, "rb") as file:
        return kind_of(file.read(1)) == KIND_VIDEO


def load(
    args: argparse.Namespace, kind: type[Codec], header: ImageHeader | VideoHeader | None = None, name: str = ""
) -> Codec:
    """The codec of this kind that the command line names, ready for files.

    Args:
        args: of the command line.
        kind: of codec.
        header: of the file to decode, whose weights are taken where the command line names none.
        name: of that file.

    Raises:
        CommandError: there is no such device.
        WeightsError: see `load_any_codec` and `find_codec`, and where the weights are of another kind of codec.
    """
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device cuda: PyTorch finds no CUDA device here; use --device cpu.")
    codec: Codec
    if header is not None and args.weights is None:
        codec = find_codec(
            header.fingerprint, "video" if kind is VideoCodec else "image", device, args.dtype, args.trusted, name
        )
    else:
        codec = (load_video if kind is VideoCodec else load_codec)(args.weights, device, args.dtype, args.trusted)
    codec.prepare()
    return codec


def chosen_quality(args: argparse.Namespace, codec: Codec) -> int:
    """The quality that the command line names, or the middle one. Raises CommandError if there is no such."""
    quality: int = codec.quality_levels // 2 if args.quality is None else args.quality
    if not 0 <= quality < codec.quality_levels:
        raise CommandError(f"--quality {quality}: these weights have the qualities 0 to {codec.quality_levels - 1}.")
    return quality
