"""Random crops of photographs on disk, addressed by sample number."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glc_train.data.pictures import PathLike, Picture, PictureError, find_pictures, read_picture
from glc_train.data.source import sample_generator

logger = logging.getLogger(__name__)


class FolderCrops:
    """Endless random crops of the pictures in one or more folders (a `CropSource`).

    The pictures come in passes, each in a new random order. Sample number i depends on (seed, i) and the files alone,
    never on what was asked before. A picture smaller than the crop is enlarged; an unreadable one is named once in the
    log, kept in `unreadable`, and replaced by the next of the pass that can be read.
    """

    def __init__(
        self,
        root: PathLike | Sequence[PathLike],
        crop_size: int,
        seed: int,
        flip: bool = True,
        scale_range: tuple[float, float] = (0.5, 1.0),
        scale_probability: float = 0.5,
        min_side: int = 0,
        cache_mb: float = 1024,
    ) -> None:
        """List the files.

        root: a folder, or a list of folders and picture files.
        crop_size: side of the crops in pixels.
        flip: mirror every other crop left to right.
        scale_range: with `scale_probability` the picture is first reduced (bicubic, antialiased) by a factor drawn
            log-uniformly from this range, within (0, 1]; other crops keep the pixels as they are.
        min_side: the shorter side of a picture, in pixels, is never reduced below this.
        cache_mb: MiB of decoded pictures kept in memory, per process. What does not fit is decoded at every use.
        Raises: PictureError for a missing or empty folder, ValueError for numbers out of range.
        """
        low, high = scale_range
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale_range must lie within (0, 1] in rising order; got ({low}, {high}).")
        if crop_size < 1 or seed < 0:
            raise ValueError(f"crop_size must be positive and seed at least 0; got {crop_size} and {seed}.")
        self.paths = _listed(root)
        self.crop_size = crop_size
        self.seed = seed
        self.flip = flip
        self.scale_range = (float(low), float(high))
        self.scale_probability = scale_probability
        self.min_side = min_side
        self.unreadable: dict[Path, str] = {}
        self._cache: dict[Path, Picture] = {}
        self._cache_left = int(cache_mb * 2**20)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def sample(self, index: int) -> Tensor:
        """Return crop number `index` >= 0: uint8 (3, crop_size, crop_size).

        Raises: PictureError if no picture at all can be read.
        """
        lap, position = divmod(index, len(self.paths))
        order = self._pass_order(lap)
        for step in range(len(order)):
            picture = self._picture(self.paths[order[(position + step) % len(order)]])
            if picture is not None:
                crop = self._crop(picture, sample_generator(self.seed, "folder crop", index))
                return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        raise PictureError(f"{self.paths[0].parent}: none of the {len(self.paths)} pictures can be read; replace them.")

    def name(self, index: int) -> str:
        """File that crop number `index` is cut from (or its replacement, if that cannot be read)."""
        lap, position = divmod(index, len(self.paths))
        return str(self.paths[self._pass_order(lap)[position]])

    def _pass_order(self, lap: int) -> np.ndarray:
        if self._order[0] != lap:
            self._order = (lap, sample_generator(self.seed, "folder pass", lap).permutation(len(self.paths)))
        return self._order[1]

    def _picture(self, path: Path) -> Picture | None:
        if path in self.unreadable:
            return None
        cached = self._cache.get(path)
        if cached is not None:
            return cached
        try:
            picture = read_picture(path)
        except PictureError as error:
            self.unreadable[path] = str(error)
            logger.warning("Skipped picture %d of %d: %s", len(self.unreadable), len(self.paths), error)
            return None
        # First come, first kept: in passes over more pictures than fit, evicting the oldest would never hit.
        if picture.nbytes <= self._cache_left:
            self._cache[path] = picture
            self._cache_left -= picture.nbytes
        return picture

    def _crop(self, picture: Picture, random: np.random.Generator) -> Picture:
        reduced, exponent, vertical, horizontal, mirrored = random.random(5)
        height, width = picture.shape[:2]
        short = min(height, width)
        scale = 1.0
        if reduced < self.scale_probability:
            low, high = self.scale_range
            scale = low * (high / low) ** exponent
        scale = max(scale, min(1.0, max(self.crop_size, self.min_side) / short))
        window = min(short, round(self.crop_size / scale))  # less than crop_size if the picture is smaller
        top = int(vertical * (height - window + 1))
        left = int(horizontal * (width - window + 1))
        crop = picture[top : top + window, left : left + window]
        if window != self.crop_size:
            resized = Image.fromarray(np.ascontiguousarray(crop)).resize(
                (self.crop_size, self.crop_size), Image.Resampling.BICUBIC
            )
            crop = np.asarray(resized)
        if self.flip and mirrored < 0.5:
            crop = crop[:, ::-1]
        return crop


def _listed(root: PathLike | Sequence[PathLike]) -> list[Path]:
    places = [Path(root)] if isinstance(root, (str, Path)) else [Path(p) for p in root]  # type: ignore[union-attr]
    if not places:
        raise PictureError("The list of training folders is empty; give at least one folder of pictures.")
    paths: list[Path] = []
    for place in places:
        paths += [place] if place.is_file() else find_pictures(place)
    return paths
