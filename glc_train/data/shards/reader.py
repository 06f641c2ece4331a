"""The chosen files of any sample of an index: from the shards' store or from the cache, checked."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from glc_train.data.shards.addresses import local_path, read_part
from glc_train.data.shards.cache import ShardCache
from glc_train.data.shards.errors import BadSampleError, ShardError
from glc_train.data.shards.index import Member, ShardIndex
from glc_train.files import printable

Files = dict[str, bytes]  # by what follows the key in the name


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ShardReading:
    """How shards are read.

    Attributes:
        index: address of the index, if it is not `index.safetensors` beside the shards.
        window: shards whose samples are shuffled among each other.
        cache: folder on a local disk in which fetched samples are kept, for all processes of a machine; `None`: not.
        cache_gb: GB (10^9 bytes) that the folder may take.
        run_mb: with a cache, samples that begin in the same so many MB (10^6 bytes) of a shard are fetched by one
            request; 0: each by its own.
        ahead_mb: MB (10^6 bytes) of samples fetched beforehand, in each process that loads.
        connections: fetches at the same time, in each process that loads.
        max_bad: the run stops when more than this share of all samples was found unusable.
        storage: options of the file system, such as `{anon: true}` for public S3 buckets.
    """

    index: str | None = None
    window: Annotated[int, Field(ge=1)] = 16
    cache: str | None = None
    cache_gb: Annotated[float, Field(gt=0)] = 100.0
    run_mb: Annotated[float, Field(ge=0)] = 0.0
    ahead_mb: Annotated[float, Field(gt=0)] = 64.0
    connections: Annotated[int, Field(ge=1)] = 16
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.1
    storage: dict[str, Any] | None = None


class SampleReader:
    """Reads the files of a sample that are of use, one part of one shard."""

    def __init__(
        self, index: ShardIndex, choose: Callable[[Sequence[Member]], list[Member]], reading: ShardReading
    ) -> None:
        """Read samples of `index`; `choose` picks the files, in the order of the shard; none makes a bad sample.

        Raises: ShardError if the cache cannot be made, or runs are asked for without one.
        """
        if reading.run_mb and reading.cache is None:
            raise ShardError(f"reading.run_mb={reading.run_mb:g}: give reading.cache=DIR as well, to keep them in.")
        self.index = index
        self._choose = choose
        self._storage = reading.storage
        self._run = int(reading.run_mb * 1e6)
        self._cache = ShardCache(reading.cache, reading.cache_gb, index.sha256) if reading.cache else None
        self.is_local = self._cache is None and all(local_path(url) is not None for url in index.urls)

    def files(self, number: int) -> Files:
        """Return the chosen files of sample `number` >= 0.

        Raises: BadSampleError if it is missing, or not what the index says; ShardError if its store cannot be reached.
        """
        shard, chosen = self._chosen(number)
        if not chosen:
            suffixes = ", ".join(member.suffix for member in self.index.members(number)[1])
            raise BadSampleError(f"{self.name(number)}: nothing of use in it, only {suffixes}.")
        start, stop = chosen[0].offset, chosen[-1].offset + chosen[-1].size
        if self._cache is not None:
            cached = _checked(self._cache.read(self.index.sha256[shard], start, stop), chosen)
            if cached is None and self._run:
                cached = self._from_run(self._cache, number, shard, chosen)
            if cached is not None:
                return cached
        data = self._fetched(shard, start, stop)
        files = _checked(data, chosen)
        if files is None:
            raise BadSampleError(f"{self.name(number)}: its bytes are not those of the index; fetch the shard again.")
        if self._cache is not None:
            self._cache.write(self.index.sha256[shard], start, data)
        return files

    def _from_run(self, cache: ShardCache, number: int, shard: int, chosen: Sequence[Member]) -> Files | None:
        """Fetch the run of a sample, unless another process just has; `None` if that does not help."""
        sha256 = self.index.sha256[shard]
        start, stop = chosen[0].offset, chosen[-1].offset + chosen[-1].size
        first, last = self.index.run(number, self._run)
        with cache.alone(sha256, first):
            files = _checked(cache.read(sha256, start, stop), chosen)
            if files is None and cache.reserve(last - first):
                try:
                    data = self._fetched(shard, first, last)
                except BadSampleError:  # the sample may be sound
                    return None
                cache.write_reserved(sha256, first, data)
                files = _checked(data[start - first : stop - first], chosen)
        return files

    def size(self, number: int) -> int:
        """Return the bytes of these files."""
        return sum(member.size for member in self._chosen(number)[1])

    def name(self, number: int) -> str:
        """Shard and first file of a sample, for messages."""
        shard, members = self.index.members(number)
        url = self.index.urls[shard]
        try:
            header = read_part(url, members[0].offset - tarfile.BLOCKSIZE, members[0].offset, self._storage)
            inner = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        except (OSError, ShardError, tarfile.TarError):
            inner = f"sample {number - int(self.index.ends[shard] - self.index.counts[shard])}"
        return printable(f"{url}: {inner}")

    def _chosen(self, number: int) -> tuple[int, list[Member]]:
        shard, members = self.index.members(number)
        return shard, self._choose(members)

    def _fetched(self, shard: int, start: int, stop: int) -> bytes:
        url = self.index.urls[shard]
        try:
            data = read_part(url, start, stop, self._storage)
        except FileNotFoundError as error:
            raise BadSampleError(
                f"{printable(url)}: no such shard; fetch it, or make the index anew.", shard
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise BadSampleError(f"{printable(url)}: the shard cannot be read ({reason}).", shard) from error
        if len(data) < stop - start:
            raise BadSampleError(f"{printable(url)}: the shard is cut short; fetch it again.", shard)
        if len(data) > stop - start:
            raise ShardError(
                f"{printable(url)}: the server sends whole files instead of parts; use one that knows byte ranges."
            )
        return data


def _checked(data: bytes, chosen: Sequence[Member]) -> Files | None:
    """Cut the part of a shard into the chosen files, `None` if one of them is not as the index says."""
    view = memoryview(data)
    files: Files = {}
    for member in chosen:
        content = view[member.offset - chosen[0].offset :][: member.size]
        if len(content) != member.size or zlib.crc32(content) != member.crc32:
            return None
        files[member.suffix] = bytes(content)
    return files
