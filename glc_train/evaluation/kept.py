"""Results that are kept as soon as they are measured, so that an evaluation that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from glc_train import provenance
from glc_train.evaluation.results import FrameResult, Result
from glc_train.evaluation.sets import Item
from glc_train.files import discard, write_bytes

FOLDER = "measured"


@dataclass(frozen=True)
class Kept:
    """Results below `folder/measured`, a file for each; those of another program, choice or picture do not count.

    Attributes:
        folder: of the evaluation.
        settings: text that stands for what is measured, with which weights and packages.
    """

    folder: Path
    settings: str

    def find(self, item: Item, codec: str, quality: int) -> Result | None:
        """The result of an item, as `keep` was given it; None: there is none that counts."""
        try:
            with safe_open(self._path(item, codec, quality), "np") as file:
                content = json.loads(file.metadata()["result"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (FileNotFoundError, SafetensorError):
            return None
        if content.pop("identity") != self._identity(item):
            return None
        frames = tuple(
            FrameResult(**frame, features=_features(arrays, number)) for number, frame in enumerate(content["frames"])
        )
        return Result(**content | {"frames": frames})

    def keep(self, item: Item, result: Result) -> None:
        """Write a result. Raises: OSError."""
        frames = [{"kind": f.kind, "bytes": f.bytes, "scores": dict(f.scores)} for f in result.frames]
        plain = asdict(replace(result, frames=())) | {"frames": frames, "identity": self._identity(item)}
        arrays = dict(_named(result))
        path = self._path(item, result.codec, result.quality)
        write_bytes(path, save(arrays, metadata={"result": json.dumps(plain)}))

    def forget(self) -> None:
        """Remove all: the results are written."""
        discard(self.folder / FOLDER)

    def _path(self, item: Item, codec: str, quality: int) -> Path:
        return self.folder / FOLDER / codec / f"q{quality}" / f"{item.name}.safetensors"

    def _identity(self, item: Item) -> str:
        """Stands for the settings, for this program, and for the file, whose time changes when it is written."""
        file = item.path.stat()
        parts = (self.settings, provenance.program_sha256(), str(item.path.resolve()), file.st_size, file.st_mtime_ns)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _named(result: Result) -> Iterator[tuple[str, np.ndarray]]:
    for number, frame in enumerate(result.frames):
        if frame.features is not None:
            for side, values in zip(("original", "decoded"), frame.features, strict=True):
                yield f"{number}.{side}", np.ascontiguousarray(values)


def _features(arrays: dict[str, Any], number: int) -> tuple[np.ndarray, np.ndarray] | None:
    original = arrays.get(f"{number}.original")
    return None if original is None else (original, arrays[f"{number}.decoded"])
