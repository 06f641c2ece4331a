"""Files and folders that appear whole or not at all: written under a temporary name, renamed when complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary_beside(path: Path, folder: bool = False) -> Path:
    """Create an empty file (or `folder`) in the folder of `path`, with its suffix and ordinary rights; return its path.

    Raises: OSError if the folder is missing or cannot be written.
    """
    if folder:
        temporary = tempfile.mkdtemp(prefix=".writing-", dir=path.parent)
    else:
        handle, temporary = tempfile.mkstemp(suffix=path.suffix, prefix=".writing-", dir=path.parent)
        os.close(handle)
    # tempfile makes them private
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, (0o777 if folder else 0o666) & ~mask)
    return Path(temporary)


def discard(temporary: Path) -> None:
    """Remove what `temporary_beside` made, if it is still there."""
    if temporary.is_dir():
        shutil.rmtree(temporary)
    else:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file beside `path` that takes its place when the block ends without an exception; else it is removed.

    Makes missing folders. Raises: OSError if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        discard(temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file. Raises: OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, line ends as they are. Raises: OSError."""
    write_bytes(path, text.encode())
