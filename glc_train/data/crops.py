"""Where random crops are cut: size, place, reduction and mirroring, the same for all frames of a clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glc_train.data.jpeg_part import JpegParts
from glc_train.media.pictures import Picture, decode_picture


@dataclass(frozen=True)
class Crop:
    """One square crop: `window` pixels a side from (top, left) on, brought to `size` pixels a side, maybe mirrored."""

    top: int
    left: int
    window: int
    size: int
    mirrored: bool

    def cut(self, picture: Picture) -> Picture:
        """Return the crop of a picture, uint8 (H, W, 3): uint8 (size, size, 3) in memory of its own."""
        crop = picture[self.top : self.top + self.window, self.left : self.left + self.window]
        if self.window != self.size:
            resized = Image.fromarray(np.ascontiguousarray(crop)).resize(
                (self.size, self.size), Image.Resampling.BICUBIC
            )
            crop = np.array(resized)
        if self.mirrored:  # ten times as fast as in NumPy
            writable = np.require(crop, requirements=["W"])
            return torch.from_numpy(writable).permute(2, 0, 1).flip(2).permute(1, 2, 0).numpy()
        return crop.copy()


class RandomCrops:
    """Draws crops for pictures of any size; one smaller than the crop is enlarged."""

    def __init__(
        self,
        size: int,
        flip: bool = True,
        scale_range: tuple[float, float] = (0.5, 1.0),
        scale_probability: float = 0.5,
        min_side: int = 0,
    ) -> None:
        """Draw crops of `size` pixels a side.

        flip: mirror every other crop left to right.
        scale_range: with `scale_probability` the picture is first reduced (bicubic, antialiased) or enlarged by a
            factor drawn log-uniformly from this range, within (0, 2]; other crops keep the pixels as they are.
        min_side: the shorter side of a picture, in pixels, is never reduced below this.
        Raises: ValueError for numbers out of range.
        """
        low, high = scale_range
        if not 0 < low <= high <= 2:
            raise ValueError(f"scale_range must lie within (0, 2] in rising order; got ({low}, {high}).")
        if size < 1:
            raise ValueError(f"crop_size must be positive; got {size}.")
        self.size = size
        self.flip = flip
        self.scale_range = (float(low), float(high))
        self.scale_probability = scale_probability
        self.min_side = min_side

    def draw(self, height: int, width: int, random: np.random.Generator) -> Crop:
        """Draw the crop for a picture of this size, with five numbers from `random`."""
        scaled, exponent, vertical, horizontal, mirrored = random.random(5)
        short = min(height, width)
        scale = 1.0
        if scaled < self.scale_probability:
            low, high = self.scale_range
            scale = low * (high / low) ** exponent
        scale = max(scale, min(1.0, max(self.size, self.min_side) / short))
        window = min(short, round(self.size / scale))  # less than the size if the picture is smaller
        return Crop(
            top=int(vertical * (height - window + 1)),
            left=int(horizontal * (width - window + 1)),
            window=window,
            size=self.size,
            mirrored=bool(self.flip and mirrored < 0.5),
        )

    def cut_from(self, data: bytes, name: str, random: np.random.Generator) -> Picture:
        """Draw and cut the crop of a picture file, of which no more is decoded than it needs where the file allows it.

        name: of the file, in messages. Returns: uint8 (size, size, 3). Raises: PictureError as `decode_picture`.
        """
        jpeg = JpegParts.of(data)
        return self.cut(decode_picture(data, name), random) if jpeg is None else self.cut_jpeg(jpeg, name, random)

    def cut_jpeg(self, jpeg: JpegParts, name: str, random: np.random.Generator) -> Picture:
        """Draw and cut the crop of a plain JPEG; see `cut_from`."""
        crop = self.draw(jpeg.height, jpeg.width, random)
        part = jpeg.decode(crop.top, crop.left, crop.top + crop.window, crop.left + crop.window)
        if part is None:
            return crop.cut(decode_picture(jpeg.data, name))
        row, column, picture = part
        return replace(crop, top=crop.top - row, left=crop.left - column).cut(picture)

    def cut(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Draw and cut the crop of a picture, uint8 (H, W, 3): uint8 (size, size, 3)."""
        return self.draw(picture.shape[0], picture.shape[1], random).cut(picture)


def reduced(picture: Picture, short_side: int | None) -> Picture:
    """Return the picture, reduced (bicubic, antialiased) if its shorter side is above `short_side` pixels."""
    height, width = reduced_size(picture.shape[0], picture.shape[1], short_side)
    if (height, width) == picture.shape[:2]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def reduced_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width of a `reduced` picture."""
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return round(height * short_side / short), round(width * short_side / short)


def channels_first(crops: Picture) -> Tensor:
    """(..., H, W, 3) → (..., 3, H, W) over the same bytes; `stacked` puts them in order."""
    return torch.from_numpy(crops).movedim(-1, -3)


def stacked(samples: Iterable[Tensor], count: int) -> Tensor:
    """Stack `count` samples as they come: each is copied once, and none is kept."""
    batch = np.empty(0)
    for number, sample in enumerate(samples):
        values = sample.numpy()
        if not number:
            batch = np.empty((count, *values.shape), values.dtype)
        batch[number] = values  # from (H, W, 3) to (3, H, W) faster than in PyTorch
    return torch.from_numpy(batch)
