"""Shards for the tests: pictures of one colour each, which says their number."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from glc_train.data import PictureEncoder, ShardIndex, write_shards
from glc_train.media import write_picture


def write_numbers(folder: Path, count: int, side: int = 16) -> Path:
    """Pictures 0 to count - 1, PNG, each of the colour that `number_of` takes back."""
    for number in range(count):
        colour = np.array([number % 16 * 16, number // 16 % 16 * 16, number // 256 * 16], np.uint8)
        write_picture(folder / f"{number % 3}/{number:04}.png", np.broadcast_to(colour, (side, side, 3)))
    return folder


def number_of(crop: Tensor) -> int:
    """The number of the picture that a crop, uint8 (3, h, w), was cut from."""
    red, green, blue = (int(value) // 16 for value in crop[:, 0, 0])
    return red + 16 * green + 256 * blue


def number_shards(folder: Path, count: int, samples: int = 10) -> ShardIndex:
    """Shards of such pictures in `folder / "shards"`."""
    return write_shards(write_numbers(folder / "pictures", count), folder / "shards", PictureEncoder(), samples)


def tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar file, by Python's own writer."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()
