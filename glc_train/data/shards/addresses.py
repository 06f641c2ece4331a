"""Files by address, local or in any store that fsspec knows: opened, listed and read in part, with retries."""

from __future__ import annotations

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import has_magic
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from fsspec.core import strip_protocol, url_to_fs
from fsspec.utils import get_protocol

from glc_train.data.shards.errors import ShardError
from glc_train.files import printable

logger = logging.getLogger(__name__)

Storage = dict[str, object] | None  # options of a file system, such as {anon: true} for public S3 buckets
_Value = TypeVar("_Value")

TRIES = 8
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 16.0  # seconds
_WORTH_RETRYING = (408, 425, 429)  # of the HTTP answers 400 to 499
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# A forked worker must never close a file system of its parent: the two share the kernel's list of awaited connections,
# so that closing one there would leave the parent waiting for an answer for ever. Kept here, none is collected.
_kept: dict[int, Any] = {}


def local_path(url: str) -> Path | None:
    """Return the path of a local address, `None` for a remote one."""
    return Path(cast(str, strip_protocol(url))) if get_protocol(url) in ("file", "local") else None


def joined(base: str, name: str) -> str:
    """Return the address `name`, if it is relative that beside `base`."""
    if "://" in name or name.startswith("/"):
        return name
    return f"{base.rpartition('/')[0] or '.'}/{name}"


def filesystem(url: str, storage: Storage = None) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and its name there. Raises: ShardError if it knows none."""
    try:
        system, name = url_to_fs(url, **(storage or {}))
    except (ImportError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ShardError(f"{printable(url)}: this kind of address cannot be opened ({reason}).") from error
    _kept[id(system)] = system
    return system, name


def listed(place: str, storage: Storage = None) -> list[str]:
    """Return the addresses of the shards in a folder, of a pattern of shards, or of one.

    Raises: ShardError if there is none; OSError.
    """
    from braceexpand import braceexpand

    urls: list[str] = []
    for name in braceexpand(place):
        pattern = name if name.endswith(".tar") or has_magic(name) else f"{name.rstrip('/')}/*.tar"
        if has_magic(pattern):
            system, inner = filesystem(pattern, storage)
            local = local_path(pattern) is not None
            found = [each if local else system.unstrip_protocol(each) for each in sorted(system.glob(inner))]
            if not found:
                raise ShardError(f"{printable(name)}: no shards there; name tar files, or a folder of them.")
            urls += found
        else:
            urls.append(pattern)
    return urls


def open_file(url: str, storage: Storage = None) -> BinaryIO:
    """Open a file for reading from beginning to end. Raises: OSError, ShardError for an unknown kind of address."""
    system, name = filesystem(url, storage)
    return cast(BinaryIO, system.open(name, "rb"))


def read_part(url: str, start: int, stop: int, storage: Storage = None) -> bytes:
    """Return bytes `start` to `stop` of a file, fewer where it ends before. Raises: as `retried`."""
    path = local_path(url)
    if path is not None:
        with path.open("rb") as file:
            return os.pread(file.fileno(), stop - start, start)
    system, name = filesystem(url, storage)

    def fetched() -> bytes:
        try:
            return cast(bytes, system.cat_file(name, start=start, end=stop))
        except Exception as error:
            if _status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # the file ends before
                return b""
            raise

    return retried(fetched, url)


@contextmanager
def local_copy(url: str, storage: Storage = None) -> Iterator[Path]:
    """The path of a file, of a remote one that of a copy for as long as the block. Raises: OSError, ShardError."""
    path = local_path(url)
    if path is not None:
        yield path
        return
    system, name = filesystem(url, storage)
    with tempfile.TemporaryDirectory(prefix="glc_train-") as folder:
        target = Path(folder) / "copy"
        retried(lambda: system.get_file(name, str(target)), url)
        yield target


def retried(fetch: Callable[[], _Value], url: str) -> _Value:
    """Return what `fetch` returns; failures that may pass are tried again, after ever longer pauses.

    Raises: OSError where the store says that the file is not to be had, ShardError where it cannot be reached.
    """
    wait = _FIRST_WAIT
    for attempt in range(1, TRIES + 1):
        try:
            return fetch()
        except Exception as error:  # each store has its own
            if isinstance(error, _FINAL) or not (isinstance(error, OSError) or _is_of_a_store(error)):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            status = _status_of(error)
            if status is not None and 400 <= status < 500 and status not in _WORTH_RETRYING:
                raise OSError(f"status {status}, {reason}") from error
            if attempt == TRIES:
                raise ShardError(
                    f"{printable(url)}: cannot be fetched after {TRIES} tries ({reason}); check the network and "
                    "start the same command again."
                ) from error
            logger.info("%s: %s; trying again in %.1f s.", printable(url), reason, wait)
        time.sleep(wait * random.uniform(0.5, 1.0))  # so that many processes do not come back at once
        wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError


def _is_of_a_store(error: Exception) -> bool:
    return type(error).__module__ != "builtins" and not isinstance(error, ShardError)


def _status_of(error: Exception) -> int | None:
    status = error.status if hasattr(error, "status") else getattr(error, "code", None)
    return status if isinstance(status, int) else None
