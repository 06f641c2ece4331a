"""The photographs that scikit-image and scikit-learn ship in their wheels: real pictures without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from glc_train.data.folder import FolderCrops
from glc_train.media.pictures import PictureError

Split = Literal["train", "test"]

# (package, folder in it, file). Pictures of one scene (the stereo pair) stay in one split.
_PICTURES: dict[str, tuple[tuple[str, str], ...]] = {
    "test": (
        ("skimage/data", "chelsea.png"),
        ("sklearn/datasets/images", "china.jpg"),
        ("skimage/data", "coffee.png"),
        ("sklearn/datasets/images", "flower.jpg"),
    ),
    "train": (
        ("skimage/data", "astronaut.png"),
        ("skimage/data", "brick.png"),
        ("skimage/data", "camera.png"),
        ("skimage/data", "coins.png"),
        ("skimage/data", "grass.png"),
        ("skimage/data", "gravel.png"),
        ("skimage/data", "hubble_deep_field.jpg"),
        ("skimage/data", "ihc.png"),
        ("skimage/data", "moon.png"),
        ("skimage/data", "motorcycle_left.png"),
        ("skimage/data", "motorcycle_right.png"),
        ("skimage/data", "retina.jpg"),
        ("skimage/data", "rocket.jpg"),
    ),
}


def packaged_pictures(split: Split) -> list[Path]:
    """Return the photographs of `split`: "test" (4 in colour, held out) or "train" (13, half of them grey).

    Raises: PictureError if a package or a file of it is missing, ValueError for another split.
    """
    if split not in _PICTURES:
        raise ValueError(f"split must be 'train' or 'test'; got {split!r}.")
    return [_located(folder, name) for folder, name in _PICTURES[split]]


class PackagedCrops(FolderCrops):
    """Random crops of the packaged training photographs (a `CropSource`)."""

    def __init__(
        self, crop_size: int, seed: int, scale_range: tuple[float, float] = (0.5, 1.0), flip: bool = True
    ) -> None:
        """Build the source; see `FolderCrops` for the arguments. Raises: PictureError if a file is missing."""
        super().__init__(packaged_pictures("train"), crop_size, seed, flip=flip, scale_range=scale_range)


def _located(folder: str, name: str) -> Path:
    package, *inner = folder.split("/")
    # find_spec does not run the package: skimage and sklearn take seconds to import
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise PictureError(f"{name}: the package {wheel} is not installed; install it to use its photographs.")
    path = Path(spec.submodule_search_locations[0]).joinpath(*inner, name)
    if not path.is_file():
        raise PictureError(f"{path}: this version of {package} does not ship the picture; install the pinned version.")
    return path
