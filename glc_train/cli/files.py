"""What the commands share: files that appear whole or not at all, weights, devices."""

from __future__ import annotations

import argparse
import glob
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Plan:
    """Files to make: of one file, or of several, then with what the search of folders came to."""

    jobs: list[Job]
    several: bool = False
    found: list[FoundFiles] = field(default_factory=list)


def plan(sources: Sequence[Path], target: Path, find: Callable[[Path], FoundFiles], suffix: str) -> Plan:
    """Files to make.

    Args:
        sources: files, and folders that are searched with `find`; patterns, where there is no file of that name.
        target: a file, or a folder; always a folder where `sources` are several or a folder. The names below it are
            those below the one folder; of several sources, their own and those below them. They get `suffix`, which is
            appended where it would not be clear of which file it is (a.png and a.jpg).

    Raises:
        CommandError: a source is missing, `target` of the wrong kind, or two names differ too little.
    """
    sources = [path for source in sources for path in _matching(source)]
    first = sources[0]
    if len(sources) == 1 and not first.is_dir():
        return Plan([Job(first, target / first.with_suffix(suffix).name if target.is_dir() else target)])
    if target.exists() and not target.is_dir():
        what = f"{first} is a folder" if len(sources) == 1 else "there are several files to read"
        raise CommandError(f"{target} is a file, but {what}: name a folder to write to.")
    jobs, found = dict[Path, Path](), list[FoundFiles]()
    for source in sources:
        if source.is_dir():
            found.append(find(source))
            root = source if len(sources) == 1 else source.parent
            _claim(jobs, {path.relative_to(root): path for path in found[-1].files})
        else:
            _claim(jobs, {Path(source.name): source})
    try:
        names = distinct_names(list(jobs), suffix)
    except CommandError as error:
        raise CommandError(f"{first}: {error}" if len(sources) == 1 else str(error)) from error
    made = [Job(path, target / name) for path, name in zip(jobs.values(), names, strict=True)]
    return Plan(made, several=True, found=found)


def _matching(source: Path) -> list[Path]:
    """The path, or what it matches as a pattern: not every shell replaces those."""
    found = [source] if source.exists() else sorted(map(Path, glob.glob(str(source), recursive=True)))
    if not found:
        raise CommandError(f"{source}: no such file or folder; check the path.")
    return found


def _claim(jobs: dict[Path, Path], names: dict[Path, Path]) -> None:
    for name, path in names.items():
        other = jobs.setdefault(name, path)
        if other is not path:
            raise CommandError(f"{other} and {path} would have one name, {name}: give them to two calls.")


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


def check_new(path: Path, args: argparse.Namespace) -> None:
    """Raises CommandError if there is something at `path` that may neither be replaced nor kept."""
    if path.exists() and not args.overwrite and not args.skip_existing:
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
    codec.limit_memory(args.memory)
    codec.prepare()
    return codec


def chosen_quality(args: argparse.Namespace, codec: Codec) -> int:
    """The quality that the command line names, or the middle one. Raises CommandError if there is no such."""
    quality: int = codec.quality_levels // 2 if args.quality is None else args.quality
    if not 0 <= quality < codec.quality_levels:
        raise CommandError(f"--quality {quality}: these weights have the qualities 0 to {codec.quality_levels - 1}.")
    return quality
