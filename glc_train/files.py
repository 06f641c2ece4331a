"""Files and folders that appear whole or not at all: written under a temporary name, renamed when complete."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def weights_folders() -> list[Path]:
    """Folders of weights that the environment names: those of `GLC_WEIGHTS`, a list as `PATH` is one."""
    return [Path(part).expanduser() for part in os.environ.get("GLC_WEIGHTS", "").split(os.pathsep) if part]


def cache_folder() -> Path:
    """Our own folder of weights: `$GLC_CACHE`, or `~/.cache/glc_train`."""
    return Path(os.environ.get("GLC_CACHE") or "~/.cache/glc_train").expanduser()


def discard(temporary: Path) -> None:
    """Remove a file, a folder or a link, if it is there. Raises: OSError."""
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary)
    else:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, folder: bool = False) -> Iterator[Path]:
    """An empty file (or `folder`) that takes the place of `path` when the block ends without an exception.

    It lies beside `path`, hidden, with its suffix, and is removed after an exception. Missing folders are made. A
    symbolic link stays, and what it points to is replaced. The rights of what is replaced are kept; else the umask
    decides.
    Raises: OSError, naming `path`, if it cannot be written, or is a device or the like.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = _destination(path)
    # not by tempfile, whose files are private
    temporary = target.parent / f".writing-{secrets.token_hex(8)}{'' if folder else path.suffix}"
    try:
        temporary.mkdir() if folder else temporary.touch(exist_ok=False)
        rights = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != rights:  # some libraries put a private file in its place
            temporary.chmod(rights)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):  # a full disk names no file
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        discard(temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file. Raises: OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, line ends as they are. Raises: OSError."""
    write_bytes(path, printable(text).encode())  # it may hold names of files


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises: OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(name: str | Path) -> str:
    r"""Return text that can be encoded: bytes of a file's name that are not UTF-8 as \udcNN, as stderr shows them."""
    return str(name).encode(errors="backslashreplace").decode()


def _destination(path: Path) -> Path:
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileExistsError(errno.EEXIST, "Neither a file nor a folder", str(path))
    return target
