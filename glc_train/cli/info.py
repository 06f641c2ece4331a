"""What `.glc` and `.glcv` files and weights files hold."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.table import Table

from glc_train.bitstream import FrameKind, ImageHeader, VideoHeader, VideoReader, unpack_image
from glc_train.cli.errors import CommandError, explain
from glc_train.cli.files import is_clip
from glc_train.cli.jobs import Coded
from glc_train.errors import is_for_user
from glc_train.weights import load_any_codec
from glc_train.weights.store import described, name_of

WEIGHTS_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")
_PICTURES = ("file", "version", "kind", "size", "quality", "bytes", "bpp", "weights")
_CLIPS = (
    "file",
    "size",
    "frames",
    "fps",
    "quality",
    "bytes",
    "bpp",
    "kbit/s",
    "intra",
    "conditional",
    "repeated",
    "weights",
)
_WEIGHTS = ("file", "name", "auto-encoder", "transform", "parameters", "z prior", "fingerprint")


def _facts(header: ImageHeader | VideoHeader, size: int, frames: int) -> Coded:
    fps = Fraction(*header.fps) if isinstance(header, VideoHeader) else None
    return Coded(
        width=header.width, height=header.height, quality=header.quality, size=size, frames=frames, fps=fps
    )  # fmt: skip


def _picture_row(path: Path) -> tuple[str, ...]:
    data = path.read_bytes()
    header, _ = unpack_image(data, str(path))
    facts = _facts(header, len(data), 1)
    size = f"{header.width}x{header.height}"
    fields = (path, header.version, "picture", size, header.quality, facts.size, f"{facts.bpp:.4f}")
    return (*map(str, fields), _weights_of(header))


def _weights_of(header: ImageHeader | VideoHeader) -> str:
    """Fingerprint and, where it is known, name of the weights that a file was written with."""
    name = name_of(header.fingerprint, "video" if isinstance(header, VideoHeader) else "image")
    return f"{header.fingerprint:04x}" + (f" {name}" if name else "")


def _clip_row(path: Path) -> tuple[str, ...]:
    """Counts and mean bytes by the kind of frame. Raises CommandError if the file is damaged, naming what is lost."""
    sizes: dict[FrameKind, list[int]] = {"intra": [], "conditional": [], "repeat": []}
    with open(path, "rb") as source:
        reader = VideoReader(source, str(path))
        header = reader.header
        while (record := reader.next_record()).kind != "end":
            if record.damage is not None:
                break
            sizes[record.kind].append(record.size)
    if record.damage is not None:
        raise CommandError(f"{path}: damaged: {record.damage}; decode it to get what is left.")
    facts = _facts(header, path.stat().st_size, sum(map(len, sizes.values())))
    means = (f"{len(each)}, mean {sum(each) / len(each):.0f} bytes" if each else "0" for each in sizes.values())
    shape, fps = f"{header.width}x{header.height}", header.fps[0] / header.fps[1]
    fields = (path, shape, facts.frames, f"{fps:.6g}", header.quality, facts.size, f"{facts.bpp:.4f}")
    return (*map(str, fields), f"{facts.kbps:.1f}", *means, _weights_of(header))


def _weights_row(path: Path, trusted: Sequence[str]) -> tuple[str, ...]:
    codec = load_any_codec(path, trusted=trusted)
    model, counts = codec.autoencoder, codec.transform.z_counts
    prior = ("uniform" if bool((counts == counts[:1]).all()) else "fitted") if len(counts) else "trained"
    facts = described(path)
    fields = (
        path,
        "" if facts is None else facts.label,
        f"{model.factor}x down, {model.latent_channels} channels, {model.quantiser.codes} codes",
        codec.summary,
        f"{sum(p.numel() for p in codec.parameters()):,}",
        prior,
    )
    return (*map(str, fields), f"{codec.fingerprint:04x}")


def info(args: argparse.Namespace) -> int:
    """`glc info`; returns the exit code: 1 if a file could not be read."""
    coded, clips, weights, failed = Table(*_PICTURES), Table(*_CLIPS), Table(*_WEIGHTS), False
    for path in args.files:
        try:
            if path.suffix in WEIGHTS_SUFFIXES:
                weights.add_row(*_weights_row(path, args.trusted))
            elif is_clip(path):
                clips.add_row(*_clip_row(path))
            else:
                coded.add_row(*_picture_row(path))
        except Exception as error:
            if not is_for_user(error):
                raise
            print(f"glc: {explain(error, path)}", file=sys.stderr)
            failed = True
    terminal = Console()
    # a table that is read by another program is not cut to the width of a terminal
    console = Console(highlight=False, markup=False, width=None if terminal.is_terminal else 1000)
    for table in (coded, clips, weights):
        if table.row_count:
            console.print(table)
    return 1 if failed else 0
