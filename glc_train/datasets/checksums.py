"""Checksums of whole sets as their owners or others have published them, in the forms that these chose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from glc_train.datasets.archives import Members
from glc_train.datasets.catalogue import DataSet
from glc_train.datasets.errors import DataSetError
from glc_train.datasets.manifest import FileRecord, in_threads
from glc_train.files import discard


def check_sha1(data: DataSet, folder: Path, files: Sequence[FileRecord]) -> None:
    """Raises DataSetError if all files, one after the other by name, have another SHA-1 than was published, if any."""
    if data.sha1 is None:
        return
    total = hashlib.sha1(usedforsecurity=False)
    for file in sorted(files, key=lambda file: PurePosixPath(file.path).name):
        total.update((folder / file.path).read_bytes())
    if total.hexdigest() != data.sha1:
        raise DataSetError(
            f"{folder}: the files are not those that were published (SHA-1 of all of them {total.hexdigest()[:12]}… "
            f"instead of {data.sha1[:12]}…); remove the folder and prepare it again, or get them elsewhere."
        )


def check_md5(data: DataSet, folder: Path, materials: Sequence[Members], paths: Sequence[str]) -> None:
    """Raises DataSetError if a file has another MD5 than the owner's list says, where that lies among `materials`."""
    lists = [(members, name) for members in materials for name in members.sizes if PurePosixPath(name).name == data.md5]
    if not lists:
        return
    expected = _read_md5(*lists[0], folder / ".downloads" / "md5.json")

    def is_wrong(path: str) -> bool:
        with (folder / path).open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        return expected.get(PurePosixPath(path).name) != found

    wrong = [path for path, bad in zip(paths, in_threads(is_wrong, paths), strict=True) if bad]
    if wrong:
        raise DataSetError(
            f"{folder}: {len(wrong)} files differ from {data.md5}, the first {wrong[0]}; get them again."
        )


def _read_md5(members: Members, name: str, unpacked: Path) -> dict[str, str]:
    """MD5 by file's name, from FFHQ's list of its pictures."""
    try:
        for _ in members.extract({name: unpacked}):
            pictures = [entry["image"] for entry in json.loads(unpacked.read_bytes()).values()]
            return {PurePosixPath(each["file_path"]).name: each["file_md5"] for each in pictures}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataSetError(f"{members.path}: {name} is not the owner's list; get it again, or remove it.") from error
    finally:
        discard(unpacked)
    return {}
