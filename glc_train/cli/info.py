"""What `.glc` and `.glcv` files and weights files hold."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from glc_train.bitstream import FrameKind, VideoReader, unpack_image
from glc_train.cli.clips import is_clip, rates
from glc_train.cli.errors import CommandError, explain
from glc_train.codecs import VideoCodec
from glc_train.errors import is_for_user
from glc_train.weights import load_any_codec

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
_WEIGHTS = ("file", "auto-encoder", "transform", "parameters", "z prior", "fingerprint")


def _coded_row(path: Path) -> tuple[str, ...]:
    data = path.read_bytes()
    header, _ = unpack_image(data, str(path))
    bpp = 8 * len(data) / (header.width * header.height)
    size = f"{header.width}x{header.height}"
    fields = (path, header.version, "picture", size, header.quality, len(data), f"{bpp:.4f}")
    return (*map(str, fields), f"{header.fingerprint:04x}")


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
    frames, size = sum(map(len, sizes.values())), path.stat().st_size
    bpp, rate = rates(header, frames, size)
    means = (f"{len(each)}, mean {sum(each) / len(each):.0f} bytes" if each else "0" for each in sizes.values())
    fps = header.fps[0] / header.fps[1]
    shape = f"{header.width}x{header.height}"
    fields = (path, shape, frames, f"{fps:.6g}", header.quality, size, f"{bpp:.4f}", f"{rate:.1f}", *means)
    return (*map(str, fields), f"{header.fingerprint:04x}")


def _weights_row(path: Path) -> tuple[str, ...]:
    codec = load_any_codec(path)
    image = codec.image if isinstance(codec, VideoCodec) else codec
    model, transform = codec.autoencoder, image.transform
    uniform = bool((transform.z_counts == transform.z_counts[:1]).all())
    prior = ("uniform" if uniform else "fitted") if len(transform.z_counts) else "trained"
    video = f"video of {codec.transform.tokens} tokens; intra " if isinstance(codec, VideoCodec) else ""
    fields = (
        path,
        f"{model.factor}x down, {model.latent_channels} channels, {model.quantiser.codes} codes",
        f"{video}{transform.summary}, {codec.quality_levels} qualities",
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
                weights.add_row(*_weights_row(path))
            elif is_clip(path):
                clips.add_row(*_clip_row(path))
            else:
                coded.add_row(*_coded_row(path))
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
