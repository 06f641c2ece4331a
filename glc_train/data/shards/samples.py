"""What goes into shards: the samples of a folder, and how each becomes files of a shard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from glc_train.data.pictures import PathLike, Picture, decode_picture, encode_picture, find_pictures

_LONGEST_STEM = 60


@dataclass(frozen=True)
class Item:
    """One sample to be written.

    Attributes:
        key: unique over all shards.
        path: of the picture.
        size: bytes that it takes, about.
    """

    key: str
    path: Path
    size: int


class Encoder(Protocol):
    """Makes the files of a sample; picklable."""

    def items(self, root: PathLike) -> list[Item]:
        """List the samples under the folder `root`, always in the same order."""
        ...

    def files(self, item: Item) -> dict[str, bytes]:
        """Return the files of a sample by what follows the key in their name.

        Raises: PictureError or ClipError if it cannot be read.
        """
        ...


@dataclass(frozen=True)
class PictureEncoder:
    """Pictures as they are, or reduced and encoded anew (an `Encoder`).

    Attributes:
        short_side: larger pictures are reduced (bicubic, antialiased) to this many pixels on the shorter side.
        format: of the new files; `None`: the files stay as they are unless `short_side` asks for JPEG.
        quality: of JPEG.
    """

    short_side: int | None = None
    format: Literal["jpeg", "png", "webp"] | None = None
    quality: int = 95

    def items(self, root: PathLike) -> list[Item]:
        """List the pictures. Raises: PictureError if there is none."""
        return [
            Item(key_of(number, path.relative_to(root)), path, path.stat().st_size)
            for number, path in enumerate(find_pictures(root))
        ]

    def files(self, item: Item) -> dict[str, bytes]:
        """Return the file of a picture, which is decoded in any case to see that it can be."""
        data = item.path.read_bytes()
        picture = decode_picture(data, str(item.path))
        if self.short_side is None and self.format is None:
            return {item.path.suffix.lower()[1:]: data}
        encoding = self.format or "jpeg"
        name = "jpg" if encoding == "jpeg" else encoding
        return {name: encode_picture(reduced(picture, self.short_side), f".{name}", self.quality, str(item.path))}


def key_of(number: int, path: Path) -> str:
    """Key of sample `number`: unique by the number, legible by the path; WebDataset ends a key at the first dot."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.with_suffix("").as_posix())
    return f"{number:08}-{stem[-_LONGEST_STEM:]}"


def reduced(picture: Picture, short_side: int | None) -> Picture:
    """Return the picture, reduced (bicubic, antialiased) if its shorter side is above `short_side` pixels."""
    height, width = picture.shape[:2]
    short = min(height, width)
    if short_side is None or short <= short_side:
        return picture
    size = (round(width * short_side / short), round(height * short_side / short))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
