"""Indices made by reading shards once from beginning to end."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from glc_train.data.shards.addresses import Storage, listed, local_path, open_file, retried
from glc_train.data.shards.errors import ShardError
from glc_train.data.shards.index import INDEX_NAME, Member, ShardIndex, ShardRecord, shard_record, write_index
from glc_train.files import printable
from glc_train.media.pictures import PathLike

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

_CHUNK = 2**20
_LARGEST_MEMBER = 2**32 - 1


class _Hashed:
    """A stream that is read once; keeps count and SHA-256 of what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.count = 0
        self._recent = b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.sha256.update(data)
        self.count += len(data)
        self._recent = self._recent[-_CHUNK:] + data
        return data

    def block(self, offset: int) -> bytes:
        """The tar block at `offset`, among what was read last."""
        return self._recent[offset - self.count + len(self._recent) :][: tarfile.BLOCKSIZE]


def index_shards(
    shards: Sequence[str], out: PathLike | None = None, jobs: int = 1, storage: Storage = None
) -> ShardIndex:
    """Make the index of shards that others wrote; they are read once from beginning to end.

    shards: addresses of folders, shards, or patterns of shards. out: where the index goes; None: to
        `index.safetensors` in the folder of local shards. jobs: processes. storage: options of the file system, such
        as {anon: true} for public S3 buckets.
    Raises: ShardError if there is none, one cannot be used, or their folder is not to be written to; OSError.
    """
    urls = [url for place in shards for url in listed(place, storage)]
    folders = {url.rpartition("/")[0] for url in urls}
    if out is None and (len(folders) > 1 or local_path(urls[0]) is None):
        raise ShardError(f"{printable(urls[0])}: not in one local folder; say where the index goes with --out FILE.")
    path = Path(f"{folders.pop() or '.'}/{INDEX_NAME}" if out is None else out)
    here = path.parent.resolve()
    names = [_name_from(here, url) for url in urls]
    records = in_processes(partial(_indexed, storage), list(zip(urls, names, strict=True)), jobs)
    write_index(path, list(records))
    return ShardIndex(str(path))


def _name_from(folder: Path, url: str) -> str:
    path = local_path(url)
    if path is None:
        return url
    return path.name if path.parent.resolve() == folder else str(path.resolve())


def _indexed(storage: Storage, job: tuple[str, str]) -> ShardRecord:
    return index_shard(*job, storage)


def in_processes(work: Callable[[_Job], _Result], tasks: Sequence[_Job], count: int) -> Iterator[_Result]:
    """Yield the results of `work`, in order, done in `count` processes."""
    if count == 1:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(count) as pool:
        yield from pool.map(work, tasks)


def index_shard(url: str, name: str, storage: Storage = None) -> ShardRecord:
    """Read the shard at `url` once and return its record, under `name`.

    Raises: ShardError if it is missing, cut short, compressed or no tar file, or holds two files of one name.
    """

    def scanned() -> ShardRecord:
        with open_file(url, storage) as stream:
            return _scanned(_Hashed(stream), url, name)

    try:
        return retried(scanned, url)
    except FileNotFoundError as error:
        raise ShardError(f"{printable(url)}: no such shard; check the address.") from error
    except OSError as error:
        raise ShardError(f"{printable(url)}: cannot be read ({error.strerror or error}).") from error


def _scanned(stream: _Hashed, url: str, name: str) -> ShardRecord:
    samples: dict[str, list[Member]] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as tar:  # type: ignore[call-overload]
            for key, suffix, info in _files(tar):
                members = samples.setdefault(key, [])
                if any(member.suffix == suffix for member in members):
                    raise ShardError(
                        f"{printable(url)}: two files {info.name}; make the shard anew with one of each name."
                    )
                if info.size > _LARGEST_MEMBER:
                    raise ShardError(f"{printable(url)}: {info.name} has 4 GiB or more; split it.")
                members.append(Member(suffix, info.offset_data, info.size, _crc32(tar, info)))
            ended = not any(stream.block(tar.offset)) and stream.count >= tar.offset + tarfile.BLOCKSIZE
    except (tarfile.TarError, EOFError) as error:
        raise ShardError(
            f"{printable(url)}: cut short, or not an uncompressed tar file ({error}); fetch or make it again."
        ) from error
    if not ended:
        raise ShardError(f"{printable(url)}: damaged or cut short, its end mark is missing; fetch or make it again.")
    while stream.read(_CHUNK):
        pass
    return shard_record(name, stream.count, stream.sha256.hexdigest(), list(samples.values()))


def _files(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, suffix and header of the files that belong to samples, by WebDataset's rules."""
    for info in tar:
        path = PurePosixPath(info.name)
        stem, dot, suffix = path.name.partition(".")
        if info.isreg() and dot and stem and not (stem.startswith("__") and stem.endswith("__")):
            yield str(path.with_name(stem)), suffix.lower(), info


def _crc32(tar: tarfile.TarFile, info: tarfile.TarInfo) -> int:
    content = tar.extractfile(info)
    assert content is not None
    crc, left = 0, info.size
    while left:
        data = content.read(min(_CHUNK, left))
        if not data:
            raise EOFError("a file ends before its length")
        crc, left = zlib.crc32(data, crc), left - len(data)
    return crc
