"""Files and folders that appear whole or not at all: written under a temporary name, renamed when complete."""

from __future__ import annotations

import os
import shutil
import tempfile
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
