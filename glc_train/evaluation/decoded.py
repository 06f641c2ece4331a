"""Pictures that another program decoded, as a codec: `codec=folder decoded=FOLDER bits=FILE`."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from glc_train.evaluation.codecs import Encoded, EncodedFrame
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.sets import Item
from glc_train.media import find_pictures, read_picture

_NAMES = ("picture", "image", "name", "file")
_POINTS = ("point", "quality", "rate", "folder")
_UNITS = ("bytes", "bits", "bpp")

Rates = Mapping[tuple[str, str], tuple[str, float]]
"""Rate point and name of the picture → unit and number of it."""


class DecodedFolder:
    """A `FileCodec` whose files are not at hand: pictures in `decoded`, named as those of the data set.

    `kodim01.png` and `kodim01_anything.png` are of kodim01, unless another picture of the set has a longer name that
    fits. Where `decoded` has folders, each is a rate point, in the
    order of their names; quality 0 is the first.

    Args:
        decoded: folder.
        bits: file of the coded sizes, or the folder of the coded files, with a folder for each rate point where
            `decoded` has them. A file (CSV, or a JSON list of objects) names in each row the `picture`, the `point`
            where there are several, and its `bytes`, `bits` or `bpp`.

    Raises:
        EvaluationError: what is said of `decoded` and `bits` does not hold.
    """

    suffix = ""
    takes_clips = False
    writes_files = False

    def __init__(self, decoded: str | None, bits: str | None) -> None:
        if decoded is None or bits is None:
            raise EvaluationError(
                "codec=folder needs decoded=FOLDER, of pictures, and bits=FILE (or FOLDER), of sizes."
            )
        self.decoded, self.bits = Path(decoded), Path(bits)
        if not self.decoded.is_dir():
            raise EvaluationError(f"decoded={decoded} is no folder: give that of the decoded pictures.")
        if not self.bits.exists():
            raise EvaluationError(f"bits={bits} does not exist: give a CSV or JSON file, or the folder of coded files.")
        folders = sorted((path for path in self.decoded.iterdir() if path.is_dir()), key=_natural)
        self.points = [path.name for path in folders if find_pictures(path)] or [""]
        self.rates = None if self.bits.is_dir() else read_rates(self.bits)
        self.quality_levels = len(self.points)
        self._of: dict[Path, Path] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What each quality is."""
        named = ", ".join(f"q{quality} {point}" for quality, point in enumerate(self.points))
        return () if self.points == [""] else (f"Rate points are folders of {self.decoded.name}: {named}.",)

    @cached_property
    def identity(self) -> str:
        """Stands for all files, as names, sizes and times of writing tell."""
        total = hashlib.sha256()
        for path in sorted([*self.decoded.rglob("*"), self.bits, *self.bits.rglob("*")]):
            total.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode(errors="surrogateescape"))
        return total.hexdigest()

    def encode(self, item: Item, level: int, path: Path) -> Encoded:
        """See `FileCodec`; nothing is written."""
        point = self.points[level]
        decoded = _matching(item.name, _longer_names(item), self._pictures(point), self.decoded / point)
        size, info = self._size(item, point, decoded), item.info()
        height, width = read_picture(decoded).shape[:2]
        if (height, width) != (info.height, info.width):
            wanted = f"{info.width}×{info.height} as {item.name} of the data set"
            raise EvaluationError(f"{decoded} has {width}×{height} pixels, not {wanted}: put one of that size there.")
        self._of[path] = decoded
        return Encoded((EncodedFrame("intra", size),), math.nan, stated_bytes=size)

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See `FileCodec`."""
        yield read_picture(self._of[path])

    def _pictures(self, point: str) -> list[Path]:
        return find_pictures(self.decoded / point, recursive=False)

    def _size(self, item: Item, point: str, decoded: Path) -> int:
        if self.rates is None:
            folder = self.bits / point
            pictures = set(self._pictures(point)) if folder.resolve() == decoded.parent.resolve() else set()
            files = [each for each in folder.iterdir() if each.is_file() and each not in pictures]
            return _matching(item.name, _longer_names(item), files, folder).stat().st_size
        found = self.rates.get((point, item.name), self.rates.get(("", item.name)) if len(self.points) == 1 else None)
        if found is None:
            at = f" at the rate point {point}" if point else ""
            raise EvaluationError(f"{self.bits} says nothing of {item.name}{at}: add a row.")
        unit, number = found
        if unit == "bpp":
            info = item.info()
            return round(number * info.width * info.height / 8)
        return math.ceil(number / (8 if unit == "bits" else 1))


def read_rates(path: Path) -> Rates:
    """The rates in a CSV or JSON file, see `DecodedFolder`.

    Raises:
        EvaluationError: the file is neither, or a row lacks what it must have.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    except ValueError as error:
        raise EvaluationError(f"{path} cannot be read as CSV or JSON ({error}): correct it.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise EvaluationError(f"{path} is not a list of objects: give each picture one with its name and bytes.")
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for number, row in enumerate(rows, start=1):
        name, unit = _column(row, _NAMES), next((unit for unit in _UNITS if row.get(unit) not in (None, "")), None)
        if name is None or unit is None:
            raise EvaluationError(f"Row {number} of {path} needs a picture, and its bytes, bits or bpp: add them.")
        try:
            value = float(cast(Any, row[unit]))
        except (TypeError, ValueError):
            value = math.nan
        if not 0 < value < math.inf:
            raise EvaluationError(f"Row {number} of {path}: {unit} is {row[unit]!r} and no positive number.")
        key = (_column(row, _POINTS) or "", Path(name).stem)
        if found.setdefault(key, (unit, value)) != (unit, value):
            raise EvaluationError(f"Row {number} of {path} gives {name} another size than a row before: keep one.")
    return found


def _column(row: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)


def _longer_names(item: Item) -> list[str]:
    """Of the pictures beside the item, those that begin as its own does."""
    return [path.stem for path in item.path.parent.iterdir() if path.stem != item.name and _fits(item.name, path)]


def _fits(name: str, path: Path) -> bool:
    return re.match(rf"{re.escape(name)}[^0-9A-Za-z]", path.name) is not None


def _matching(name: str, others: Sequence[str], files: Sequence[Path], folder: Path) -> Path:
    exact = [path for path in files if path.stem == name]
    of_others = [path for path in files if any(path.stem == other or _fits(other, path) for other in others)]
    found = exact or [path for path in files if _fits(name, path) and path not in of_others]
    if len(found) != 1:
        what = "no file" if not found else f"{len(found)} files"
        raise EvaluationError(f"{folder} has {what} for {name}: give it one, with that name.")
    return found[0]


def _natural(path: Path) -> list[tuple[bool, float, str]]:
    parts = re.split(r"(\d+(?:\.\d+)?)", path.name)
    return [(bool(n % 2), float(part) if n % 2 else 0.0, part) for n, part in enumerate(parts)]
