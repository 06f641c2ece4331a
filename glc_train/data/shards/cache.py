"""Parts of shards kept on a local disk: bounded, shared by processes and runs, sound however one of them ends."""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from glc_train.data.shards.errors import ShardError

logger = logging.getLogger(__name__)

_SUFFIX = ".shard"
_LOCKS = 256  # files to lock; a run of samples has one of them
_UNUSED = 600.0  # seconds after which the shards of other data sets make way
_TOUCHED_EVERY = 60.0  # seconds
_MEASURED_EVERY = 100  # times while the cache fills
_MEASURED_AGAIN = 60.0  # seconds after it was found full


class ShardCache:
    """A folder with one file a shard, named by its SHA-256: what was fetched lies in its place, the rest are holes.

    No record says what is there: the reader knows the checksum of what it asks for, so that what another process left
    half written counts as missing. When the folder is full, shards of other data sets that are out of use make way;
    after that nothing more is kept, since in passes over more than fits evicting the oldest would never hit.
    """

    def __init__(self, folder: str, limit_gb: float, own: Collection[str]) -> None:
        """Keep at most about `limit_gb` GB (10^9 bytes) in `folder`.

        own: SHA-256 of the shards of this data set.
        Raises: ShardError if the folder cannot be made.
        """
        self._folder = Path(folder)
        self._limit = int(limit_gb * 1e9)
        self._own = {f"{sha256}{_SUFFIX}" for sha256 in own}
        self._left = 0  # bytes that may be written before the folder is measured again
        self._full_until = 0.0
        self._touched: dict[str, float] = {}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ShardError(f"{folder}: the cache cannot be made ({error.strerror}); name another folder.") from error

    def read(self, sha256: str, start: int, stop: int) -> bytes:
        """Return what is kept of bytes `start` to `stop` of a shard: these, fewer, or zeros among them."""
        path = self._path(sha256)
        try:
            with path.open("rb") as file:
                data = os.pread(file.fileno(), stop - start, start)
            if time.monotonic() - self._touched.get(sha256, -_TOUCHED_EVERY) >= _TOUCHED_EVERY:
                self._touched[sha256] = time.monotonic()
                os.utime(path)
        except OSError:  # not there, or just evicted
            return b""
        return data

    def write(self, sha256: str, start: int, data: bytes) -> None:
        """Keep `data`, which lies at `start` of a shard, if there is room."""
        if self.reserve(len(data)):
            self.write_reserved(sha256, start, data)

    def write_reserved(self, sha256: str, start: int, data: bytes) -> None:
        """Keep `data`, for which room was reserved."""
        try:
            file = os.open(self._path(sha256), os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.pwrite(file, data, start)
            finally:
                os.close(file)
        except OSError as error:
            logger.warning("%s: nothing more is kept (%s).", self._folder, error.strerror or error)
            self._full_until = float("inf")

    @contextmanager
    def alone(self, sha256: str, start: int) -> Iterator[None]:
        """Keep other threads and processes from fetching the same bytes from `start` on, for as long as the block."""
        try:
            number = zlib.crc32(f"{sha256} {start}".encode()) % _LOCKS
            lock = FileLock(self._folder / f".lock-{number:03}")
            lock.acquire()
        except OSError:  # a folder that is only read
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}{_SUFFIX}"

    def reserve(self, size: int) -> bool:
        """Whether there is room for `size` more bytes, which are then to be written."""
        self._left -= size
        if self._left >= 0:
            return True
        if time.monotonic() < self._full_until:
            return False
        free, share = self._measured(), self._limit // _MEASURED_EVERY
        if free < max(size, share):
            self._full_until = time.monotonic() + _MEASURED_AGAIN
            return False
        self._left = max(0, min(free // 16, share) - size)  # other processes write as well
        return True

    def _measured(self) -> int:
        """Make room, and return the bytes free below the limit."""
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime, path, status.st_blocks * 512))
        free = self._limit - sum(size for _, _, size in found)
        for used, path, size in sorted(found):
            if free >= self._limit // _MEASURED_EVERY:
                break
            if path.name not in self._own and time.time() - used > _UNUSED:
                path.unlink(missing_ok=True)
                free += size
        return free
