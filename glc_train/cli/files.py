"""What the commands share: files that appear whole or not at all, weights, devices."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch

from glc_train.cli.errors import CommandError
from glc_train.codecs import ImageCodec, VideoCodec
from glc_train.data import FoundFiles
from glc_train.files import replacing

Codec = TypeVar("Codec", ImageCodec, VideoCodec)


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
            with `suffix`, which is appended where two files would get one name (a.png and a.jpg).

    Raises:
        CommandError: `source` is missing, or `target` of the wrong kind.
    """
    if not source.exists():
        raise CommandError(f"{source}: no such file or folder; check the path.")
    if not source.is_dir():
        return [Job(source, target / source.with_suffix(suffix).name if target.is_dir() else target)], None
    if target.exists() and not target.is_dir():
        raise CommandError(f"{target} is a file, but {source} is a folder: name a folder to write to.")
    found = find(source)
    names = [path.relative_to(source) for path in found.files]
    renamed = [name.with_suffix(suffix) for name in names]
    jobs = [
        Job(source / name, target / (new if renamed.count(new) == 1 else name.with_name(name.name + suffix)))
        for name, new in zip(names, renamed, strict=True)
    ]
    return jobs, found


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes its place when the block ends without an exception. Raises OSError."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file


def load(args: argparse.Namespace, loader: Callable[..., Codec]) -> Codec:
    """The codec that the command line names, made by `load_codec` or `load_video`.

    Raises:
        CommandError: there is no such device.
        WeightsError: see the loader.
    """
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device cuda: PyTorch finds no CUDA device here; use --device cpu.")
    codec = loader(args.weights, device=device, dtype=args.dtype)
    _ = codec.fingerprint  # prepares the exact arithmetic, which would count as the first file's time
    return codec


def chosen_quality(args: argparse.Namespace, codec: ImageCodec | VideoCodec) -> int:
    """The quality that the command line names, or the middle one. Raises CommandError if there is no such."""
    quality: int = codec.quality_levels // 2 if args.quality is None else args.quality
    if not 0 <= quality < codec.quality_levels:
        raise CommandError(f"--quality {quality}: these weights have the qualities 0 to {codec.quality_levels - 1}.")
    return quality
