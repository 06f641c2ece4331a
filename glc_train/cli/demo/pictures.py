"""A picture through the codec, and through those of others at the same bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from glc_train.cli.demo.desk import TITLE, Desk, Made, resized, table
from glc_train.codecs import accounting, compress_within
from glc_train.effort import Refiner
from glc_train.evaluation import EvaluationError
from glc_train.evaluation.sheet import Coded, best_within, judged
from glc_train.files import write_bytes
from glc_train.media import read_picture, write_picture

ORIGINAL, MAP = "Original", "Map of bits"
OTHERS = {"avif": "AVIF", "webp": "WebP", "jpeg": "JPEG"}
_SIZES = {"_half": " at half size", "_quarter": " at quarter size"}
_GREY = 0.3  # of the picture in its map of bits


@dataclass(frozen=True)
class Wish:
    """How a picture is to be coded: at a quality or, where `most` is given, in at most so many bytes."""

    quality: int
    most: int | None
    effort: int


def code(desk: Desk, source: Path, wish: Wish, progress: Callable[[int, int], None]) -> Iterator[Made]:
    """Code a picture file; what is made is given again with each other codec that was tried.

    Args:
        desk: with the codec.
        source: picture file, reduced where it is larger than may be.
        wish: how.
        progress: told the steps of effort that are done, and all.

    Raises:
        PictureError, WeightsError, BackboneError, ValueError: it cannot be done.
    """
    deadline = desk.deadline()
    original, remarks = _read(desk, source)
    codec = desk.pictures
    refiner = Refiner(wish.effort, seconds=desk.args.max_seconds, progress=progress)
    if wish.most is None:
        data = codec.compress(original, wish.quality, refiner)
    else:
        quality, coded = compress_within(codec, original, wish.most, refiner)
        data = coded.data
        over = len(data) > wish.most
        remarks.append(f"Not even the smallest file is so small: {len(data):,} bytes." if over else "")
        remarks.append("" if over else f"Quality {quality} is the largest that fits.")
    with accounting() as account:
        decoded = codec.decompress(data)
    with desk.new_folder() as folder:
        made = Made(folder, folder / f"{source.stem}{codec.suffix}", remarks=[each for each in remarks if each])
        write_bytes(made.file, data)
        rows = [judged(original, TITLE, data, decoded)]
        _show(made, ORIGINAL, original)
        _show(made, TITLE, decoded)
        if account.map is not None:
            _show(made, MAP, draw_map(decoded, account.map, codec.autoencoder.factor))
            made.remarks.append(_scale(account.map, codec.autoencoder.factor))
        made.figures = _table(rows)
        yield made
        for name, title in OTHERS.items():
            if deadline.over():
                made.remarks.append(f"{title} is left out: {deadline.seconds} seconds are over.")
                continue
            try:
                found = best_within(name, original, len(data))
            except EvaluationError as error:
                made.remarks.append(str(error).replace(name, title, 1))
            else:
                _show(made, title, found.picture)
                rows.append(found)
            made.figures = _table(rows)
            yield made


def _read(desk: Desk, source: Path) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        picture = read_picture(source)
    remarks = [desk.plain(str(each.message)) for each in found if str(each.message).startswith(str(source))]
    height, width = picture.shape[:2]
    size = desk.size_within(width, height)
    if size != (width, height):
        remarks.append(f"{width}×{height} pixels are more than this page codes; made smaller, {size[0]}×{size[1]}.")
    return resized(picture, size), remarks


def _show(made: Made, what: str, picture: np.ndarray) -> None:
    made.shown[what] = made.folder / f"{len(made.shown)}.png"
    write_picture(made.shown[what], picture)


def _table(rows: list[Coded]) -> str:
    """The figures of each codec."""
    measured = rows[0].lpips is not None
    head = ["", "bytes", "bits per pixel", "PSNR"] + (["LPIPS ↓"] if measured else [])
    lines = []
    for each in rows:
        height, width = each.picture.shape[:2]
        kind, _, size = each.codec.partition("_")
        name = OTHERS.get(kind, kind) + _SIZES.get(f"_{size}", "")
        figures = [f"{each.bytes:,}", f"{8 * each.bytes / (height * width):.4f}", f"{each.psnr:.2f} dB"]
        lines.append([name, *figures] + ([f"{each.lpips:.3f}"] if each.lpips is not None else []))
    return table(head, lines)


def _whitest(bits: np.ndarray) -> float:
    return float(max(np.quantile(bits, 0.99), 1e-9))


def _scale(bits: np.ndarray, cell: int) -> str:
    return f"Map of bits: the brightest places take {_whitest(bits):.1f} bits or more in {cell}×{cell} pixels."


def draw_map(picture: np.ndarray, bits: np.ndarray, cell: int) -> np.ndarray:
    """The bits of each place in colour, dark where there are none, over the picture in grey.

    Args:
        picture: uint8 (H, W, 3).
        bits: (h, w), of cells of `cell` × `cell` pixels; they reach beyond the picture's right and lower edges.
        cell: in pixels.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = picture.shape[:2]
    colours = matplotlib.colormaps["inferno"](np.minimum(bits / _whitest(bits), 1))[..., :3]
    large = colours.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    grey = picture.mean(2, keepdims=True) / 255
    mixed = (1 - _GREY) * large + _GREY * grey
    return np.asarray((255 * mixed).round(), dtype=np.uint8)
