"""What a prepared data set holds: `manifest.json` in its folder, and whether the folder still agrees with it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from glc_train.datasets.errors import DataSetError
from glc_train.files import sha256_of, write_text

MANIFEST = "manifest.json"
_NAMED = 5  # of the problems, in a sentence
_BATCH = 4096  # files at once in the queue of the threads: a set may have millions

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """One file of a set.

    Attributes:
        path: relative to the set's folder, with slashes.
        size: in bytes.
        sha256: of its bytes.
        split: that it belongs to; empty for lists and the like, which are no samples.
    """

    path: str
    size: int
    sha256: str
    split: str

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise ValueError("a path that leaves the folder")
        return path


class Sample(_Record):
    """How a part of a larger set was drawn: the `count` names of lowest SHA-256 of "`seed`:name", `of` all of them."""

    seed: int
    count: int
    of: int


class SourceRecord(_Record):
    """Where files came from: an address or the name of a file, and its SHA-256 (`None`: of many small files)."""

    name: str
    sha256: str | None


class Manifest(_Record):
    """A prepared data set.

    Attributes:
        name, version, licence: of the set.
        frames: whether each folder of files is one sample, a clip; else each file is one.
        counts: samples in each split.
        drawn: how it was drawn from a larger set; `None`: it is whole.
        sources: where it came from.
        files: all files, sorted by path.
    """

    name: str
    version: str
    licence: str
    frames: bool
    counts: dict[str, int]
    drawn: Sample | None
    sources: tuple[SourceRecord, ...]
    files: tuple[FileRecord, ...]

    def digest(self, split: str) -> str:
        """SHA-256 that stands for the bytes of a split's files, whatever their names and order."""
        hashes = sorted(file.sha256 for file in self.files if file.split == split)
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def count_samples(files: Sequence[FileRecord], frames: bool) -> dict[str, int]:
    """Number of samples in each split; see `Manifest.frames`."""
    samples = {(file.split, PurePosixPath(file.path).parent if frames else file.path) for file in files if file.split}
    return dict(sorted(Counter(split for split, _ in samples).items()))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into the set's folder. Raises: OSError."""
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared set.

    Raises: DataSetError if it is missing, is none, or does not agree with itself.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataSetError(f"{folder} has no {MANIFEST}: prepare the set with glc data prepare.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataSetError(f"{path}: {place}: {first['msg']}; remove the file and prepare the set again.") from error
    if manifest.counts != count_samples(manifest.files, manifest.frames):
        raise DataSetError(f"{path}: its counts are not those of its files; remove it and prepare the set again.")
    return manifest


def record_files(
    folder: Path, splits: dict[str, str], advance: Callable[[int], None] = lambda size: None
) -> list[FileRecord]:
    """Records of files in `folder`, sorted by path.

    Args:
        folder: of the set.
        splits: split of each path relative to `folder`.
        advance: called with the size in bytes of each file that has been read.

    Raises:
        OSError: a file cannot be read.
    """

    def record(path: str) -> FileRecord:
        size = (folder / path).stat().st_size
        made = FileRecord(path=path, size=size, sha256=sha256_of(folder / path), split=splits[path])
        advance(size)
        return made

    return list(in_threads(record, sorted(splits)))


def find_problems(
    folder: Path, manifest: Manifest, advance: Callable[[int], None] = lambda size: None
) -> dict[str, str]:
    """What is wrong with each file that is not as the manifest says, by its path: "missing", or how it differs.

    All bytes are read. `advance`: see `record_files`.
    """

    def check(file: FileRecord) -> str | None:
        path = folder / file.path
        try:
            size = path.stat().st_size
            if size != file.size:
                return f"{size} bytes instead of {file.size}"
            return None if sha256_of(path) == file.sha256 else "other bytes, of another SHA-256"
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return error.strerror or str(error)
        finally:
            advance(file.size)

    results = in_threads(check, manifest.files)
    return {file.path: why for file, why in zip(manifest.files, results, strict=True) if why is not None}


def check_folder(folder: Path, advance: Callable[[int], None] = lambda size: None) -> Manifest:
    """The manifest of a prepared set after all its files were read and found right.

    Raises: DataSetError, naming the first files that are missing or differ.
    """
    manifest = read_manifest(folder)
    problems = find_problems(folder, manifest, advance)
    if problems:
        named = ", ".join(f"{path} ({why})" for path, why in list(problems.items())[:_NAMED])
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise DataSetError(
            f"{folder}: {len(problems)} of {len(manifest.files)} files are not as prepared: {named}{more}; "
            f"glc data prepare {manifest.name} completes the set."
        )
    return manifest


def in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """What `function` comes to for each item, in order; the work is done in as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter's lock
        for start in range(0, len(items), _BATCH):
            yield from pool.map(function, items[start : start + _BATCH])
