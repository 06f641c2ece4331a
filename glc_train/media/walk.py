"""Folders searched for files: the one walk behind pictures, clips and coded files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from glc_train.files import printable

_NAMED = 10  # of each reason, in the remark


class Reason(StrEnum):
    """Why something in a folder is left out; the values are parts of the remark."""

    HIDDEN = "hidden"
    OTHER_KIND = "of another kind"
    SEEN = "found before under another name"
    UNREADABLE = "unreadable"


@dataclass
class FoundFiles:
    """What a search of `root` came to.

    Attributes:
        root: the folder that was searched.
        files: the files looked for, sorted by their path relative to `root`.
        left_out: everything else below `root`, with the reason; a folder that is left out counts once.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    left_out: dict[Path, Reason] = field(default_factory=dict)

    @property
    def unreadable(self) -> int:
        """Number of folders that could not be searched, and of files that are none, such as links to nowhere."""
        return sum(reason is Reason.UNREADABLE for reason in self.left_out.values())

    @property
    def remark(self) -> str | None:
        """One sentence that counts what was left out and names some of it; `None` if that is nothing."""
        if not self.left_out:
            return None
        groups = {reason: sorted(p for p, why in self.left_out.items() if why is reason) for reason in Reason}
        parts = [f"{len(paths)} {reason} ({self._names(paths)})" for reason, paths in groups.items() if paths]
        return printable(f"{self.root}: left out {', '.join(parts)}.")

    def _names(self, paths: Sequence[Path]) -> str:
        shown = [p.relative_to(self.root).as_posix() for p in paths[:_NAMED]]
        return ", ".join(shown) + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")


def find_files(root: Path, suffixes: Sequence[str], recursive: bool = True) -> FoundFiles:
    """Search the folder `root` and, if `recursive`, those below it for files with one of `suffixes` (lower case).

    Linked folders are searched as well, each folder once: by its own name rather than by a link where it has both.
    Hidden files and folders are left out.
    Raises: NotADirectoryError or FileNotFoundError if `root` is no folder, PermissionError if it may not be read.
    """
    found = FoundFiles(root)
    entered: set[tuple[int, int]] = set()
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                found.left_out[folder] = Reason.SEEN
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name, reverse=True)  # the first is popped first
        except OSError:
            if folder is root:
                raise
            found.left_out[folder] = Reason.UNREADABLE
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                found.left_out[path] = Reason.HIDDEN
            elif os.path.isdir(entry):  # False where a link cannot be followed, at which the entry's own would raise
                if recursive:
                    (links if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() not in suffixes:
                found.left_out[path] = Reason.OTHER_KIND
            elif os.path.isfile(entry):
                found.files.append(path)
            else:  # a link to nowhere, a pipe
                found.left_out[path] = Reason.UNREADABLE
    found.files.sort(key=lambda path: path.relative_to(root).as_posix())
    return found
