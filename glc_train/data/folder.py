"""Random crops of photographs on disk, addressed by sample number."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from glc_train.data.crops import RandomCrops, channels_first
from glc_train.data.file_passes import DecodedCache, FilePasses
from glc_train.data.jpeg_part import JpegParts
from glc_train.data.source import sample_generator
from glc_train.media.pictures import PathLike, Picture, PictureError, find_pictures, read_picture

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
        flip, scale_range, scale_probability, min_side: see `RandomCrops`.
        cache_mb: MiB of decoded pictures kept in memory, per process. What does not fit is decoded at every use.
        Raises: PictureError for a missing or empty folder, ValueError for numbers out of range.
        """
        self._crops = RandomCrops(crop_size, flip, scale_range, scale_probability, min_side)
        if seed < 0:
            raise ValueError(f"seed must be at least 0; got {seed}.")
        self.paths = _listed(root)
        self.seed = seed
        self._passes = FilePasses(self.paths, seed, "picture", PictureError, logger)
        self.unreadable = self._passes.unreadable
        self._cache: DecodedCache[Picture] = DecodedCache(cache_mb)

    def sample(self, index: int) -> Tensor:
        """Return crop number `index` >= 0: uint8 (3, crop_size, crop_size).

        Raises: PictureError if no picture at all can be read.
        """
        crop = self._passes.read(index, lambda path: self._cut(path, index))
        return channels_first(crop)

    def name(self, index: int) -> str:
        """File that crop number `index` is cut from (or its replacement, if that cannot be read)."""
        return str(self._passes.path(index))

    def _cut(self, path: Path, index: int) -> Picture:
        if path in self.unreadable:
            raise PictureError(self.unreadable[path])
        random = sample_generator(self.seed, "folder crop", index)
        picture = self._cache.get(path)
        if picture is None:
            jpeg = _jpeg_parts(path)
            if jpeg is not None and not self._cache.fits(3 * jpeg.height * jpeg.width):
                return self._crops.cut_jpeg(jpeg, str(path), random)
            picture = read_picture(path)
            self._cache.offer(path, picture, picture.nbytes)
        return self._crops.cut(picture, random)


def _jpeg_parts(path: Path) -> JpegParts | None:
    try:
        return JpegParts.of(path.read_bytes()) if path.suffix.lower() in (".jpg", ".jpeg") else None
    except OSError:  # said better where it is read as a picture
        return None


def _listed(root: PathLike | Sequence[PathLike]) -> list[Path]:
    places = [Path(root)] if isinstance(root, (str, Path)) else [Path(p) for p in root]  # type: ignore[union-attr]
    if not places:
        raise PictureError("The list of training folders is empty; give at least one folder of pictures.")
    paths: list[Path] = []
    for place in places:
        paths += [place] if place.is_file() else find_pictures(place)
    return paths
