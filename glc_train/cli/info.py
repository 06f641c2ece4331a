"""What `.glc` and `.glcv` files and weights files hold."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glc_train.bitstream import FrameKind, ImageHeader, VideoHeader, VideoReader, unpack_image
from glc_train.cli.errors import CommandError, explain
from glc_train.cli.files import is_clip
from glc_train.cli.jobs import Coded
from glc_train.cli.told import print_record
from glc_train.errors import is_for_user
from glc_train.weights import load_any_codec
from glc_train.weights.store import FILES, described, name_of

_COLUMNS = {
    "picture": ("file", "version", "kind", "size", "quality", "bytes", "bpp", "weights"),
    "clip": (
        "file", "size", "frames", "fps", "quality", "bytes", "bpp", "kbit/s", "intra", "conditional", "repeated",
        "weights",
    ),
    "weights": ("file", "name", "auto-encoder", "transform", "parameters", "z prior", "fingerprint"),
}  # fmt: skip


def _facts(header: ImageHeader | VideoHeader, size: int, frames: int) -> dict[str, Any]:
    fps = Fraction(*header.fps) if isinstance(header, VideoHeader) else None
    coded = Coded(width=header.width, height=header.height, quality=header.quality, size=size, frames=frames, fps=fps)
    name = name_of(header.fingerprint, "video" if isinstance(header, VideoHeader) else "image")
    return coded.record() | {"fingerprint": f"{header.fingerprint:04x}", "weights": name}


def _picture(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    header, _ = unpack_image(data, str(path))
    return {"kind": "picture", "version": header.version} | _facts(header, len(data), 1)


def _clip(path: Path) -> dict[str, Any]:
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
    kinds = {name: {"frames": len(each), "bytes": sum(each)} for name, each in sizes.items()}
    return {"kind": "clip"} | _facts(header, path.stat().st_size, sum(map(len, sizes.values()))) | kinds


def _weights(path: Path, trusted: Sequence[str]) -> dict[str, Any]:
    codec = load_any_codec(path, trusted=trusted)
    model, counts = codec.autoencoder, codec.transform.z_counts
    facts = described(path)
    return {
        "kind": "weights",
        "name": None if facts is None else facts.label,
        "autoencoder": f"{model.factor}x down, {model.latent_channels} channels, {model.quantiser.codes} codes",
        "transform": codec.summary,
        "parameters": sum(p.numel() for p in codec.parameters()),
        "z_prior": ("uniform" if bool((counts == counts[:1]).all()) else "fitted") if len(counts) else "trained",
        "fingerprint": f"{codec.fingerprint:04x}",
    }


def _cells(path: Path, facts: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table of this kind."""
    if facts["kind"] == "weights":
        names = ("name", "autoencoder", "transform")
        words = [facts[name] or "" for name in names]
        return (str(path), *words, f"{facts['parameters']:,}", facts["z_prior"], facts["fingerprint"])
    size, weights = f"{facts['width']}x{facts['height']}", f"{facts['fingerprint']} {facts['weights'] or ''}".strip()
    bpp = "-" if facts["bpp"] is None else f"{facts['bpp']:.4f}"
    coded = (str(facts["quality"]), str(facts["bytes"]), bpp)
    if facts["kind"] == "picture":
        return (str(path), str(facts["version"]), "picture", size, *coded, weights)
    kinds = [facts[name] for name in ("intra", "conditional", "repeat")]
    means = [f"{n['frames']}, mean {n['bytes'] / n['frames']:.0f} bytes" if n["frames"] else "0" for n in kinds]
    kbps = "-" if facts["kbps"] is None else f"{facts['kbps']:.1f}"
    return (str(path), size, str(facts["frames"]), f"{facts['fps']:.6g}", *coded, kbps, *means, weights)


def info(args: argparse.Namespace) -> int:
    """`glc info`; returns the exit code: 1 if a file could not be read."""
    tables, failed = {kind: Table(*columns) for kind, columns in _COLUMNS.items()}, False
    for path in args.files:
        try:
            if path.suffix in FILES:
                facts = _weights(path, args.trusted)
            else:
                facts = _clip(path) if is_clip(path) else _picture(path)
        except Exception as error:
            if not is_for_user(error):
                raise
            reason = explain(error, path)
            print(f"glc: {reason}", file=sys.stderr)
            facts, failed = {"error": reason}, True
        if args.json:
            print_record({"file": str(path)} | facts)
        elif "kind" in facts:
            tables[facts["kind"]].add_row(*_cells(path, facts))
    terminal = Console()
    # a table that is read by another program is not cut to the width of a terminal
    console = Console(highlight=False, markup=False, width=None if terminal.is_terminal else 1000)
    for table in tables.values():
        if table.row_count:
            console.print(table)
    return 1 if failed else 0
