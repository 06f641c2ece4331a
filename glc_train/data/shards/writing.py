"""Folders to WebDataset shards and their index: the same bytes every time, in several processes, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from glc_train.data.shards.errors import ShardError
from glc_train.data.shards.index import INDEX_NAME, ShardIndex, ShardRecord, write_index
from glc_train.data.shards.samples import Encoder, Item
from glc_train.data.shards.scanning import in_processes, index_shard
from glc_train.files import discard, replacing, write_text
from glc_train.media.clip_info import ClipError
from glc_train.media.pictures import PathLike, PictureError

_PLAN_NAME = ".plan.json"  # in a folder whose shards are not all written
_LOCK_NAME = ".lock"
_MEASURED = 16  # samples encoded beforehand to find how large they become
_HEADROOM = 2**26  # bytes of disk space left free


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is complete.

    Attributes:
        path: its file, number `number` of `of`. samples, size: number and bytes.
        left_out: samples that should be in it and cannot be read.
        refusals: why; not of a shard that an earlier call wrote.
    """

    path: Path
    number: int
    of: int
    samples: int
    size: int
    left_out: int
    refusals: list[str]


def write_shards(
    root: PathLike,
    out: PathLike,
    encoder: Encoder,
    samples: int | None = None,
    megabytes: float = 256,
    seed: int = 0,
    jobs: int = 1,
    done: Callable[[WrittenShard], None] = lambda shard: None,
) -> ShardIndex:
    """Write the samples under `root` to `out/shard-000000.tar`, ... and `out/index.safetensors`.

    The samples are shuffled over all shards. What is written depends on the arguments and the files alone; a shard
    appears whole or not at all. The same call again goes on where a call was interrupted. Samples that cannot be read
    are left out.

    samples: of a shard; None: as many as take about `megabytes` MB (10^6 bytes).
    seed: of the order. jobs: processes.
    done: called for each shard.
    Raises: PictureError or ClipError if there is nothing to write; ShardError if `out` holds something else, the disk
    is too small or no sample can be read; ValueError for numbers out of range; OSError.
    """
    if min(jobs, 1 if samples is None else samples, megabytes) <= 0 or seed < 0:
        raise ValueError("samples, megabytes and jobs must be positive, and the seed 0 or above.")
    out = Path(out)
    items = encoder.items(root)
    scale = _growth(encoder, items)
    shards = _shared_out(items, scale, samples, megabytes * 1e6, seed)
    names = [[item.key, str(item.path.name), item.size] for item in items]
    listing = hashlib.sha256(json.dumps(names).encode(errors="surrogateescape")).hexdigest()
    settings = {"samples": samples, "megabytes": megabytes, "seed": seed, "files": listing}
    plan = json.dumps({type(encoder).__name__: asdict(encoder), **settings})  # type: ignore[call-overload]
    with _begun(out, plan, sum(item.size for item in items) * scale):
        records = []
        write = partial(_written, out, encoder)
        for number, (record, refusals) in enumerate(in_processes(write, list(enumerate(shards)), jobs)):
            records.append(record)
            count = len(record.starts)
            left_out = len(shards[number]) - count
            done(WrittenShard(out / record.name, number, len(shards), count, record.size, left_out, refusals))
        if not any(len(record.starts) for record in records):
            for name in [*(record.name for record in records), _PLAN_NAME]:
                discard(out / name)
            raise ShardError(f"{root}: none of its files can be read; nothing was written.")
        write_index(out / INDEX_NAME, records, plan)
        discard(out / _PLAN_NAME)
    return ShardIndex(str(out / INDEX_NAME))


def _growth(encoder: Encoder, items: Sequence[Item]) -> float:
    """Bytes of the samples in a shard for a byte of their source, from a few of them."""
    before = after = 0
    for k in np.linspace(0, len(items) - 1, min(_MEASURED, len(items))).astype(int):
        with suppress(PictureError, ClipError):
            after += sum(map(len, encoder.files(items[k]).values()))
            before += items[k].size
    return after / before if before else 1.0


def _shared_out(items: Sequence[Item], scale: float, samples: int | None, limit: float, seed: int) -> list[list[Item]]:
    shards: list[list[Item]] = []
    size = 0.0
    for k in np.random.default_rng(seed).permutation(len(items)):
        full = len(shards[-1]) >= samples if shards and samples else size + items[k].size * scale > limit
        if not shards or full:
            shards.append([])
            size = 0.0
        shards[-1].append(items[k])
        size += items[k].size * scale
    return shards


@contextmanager
def _begun(out: Path, plan: str, size: float) -> Iterator[None]:
    """Hold the folder `out`, a new one or one that the same call began, and see that `size` bytes fit."""
    out.mkdir(parents=True, exist_ok=True)
    begun, index, lock = out / _PLAN_NAME, out / INDEX_NAME, out / _LOCK_NAME
    found = begun.read_text() if begun.is_file() else ShardIndex(str(index)).plan if index.is_file() else None
    if found is None and any(path != lock for path in out.iterdir()):
        raise ShardError(f"{out}: the folder is not empty; name a new one.")
    if found not in (None, plan):
        raise ShardError(f"{out}: holds shards of other files or options; name a new folder, or empty this one.")
    try:
        with FileLock(lock, timeout=0):
            for leftover in out.glob(".writing-*"):  # of a call that was killed
                discard(leftover)
            there = sum(path.stat().st_size for path in out.glob("*.tar"))
            free = shutil.disk_usage(out).free
            if size - there + _HEADROOM > free:
                needed = f"about {size / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free"
                raise ShardError(f"{out}: {needed}; make room, or write elsewhere.")
            write_text(begun, plan)
            yield
    except Timeout as error:
        raise ShardError(f"{out}: another call is writing there; let it end first.") from error
    discard(lock)


def _written(out: Path, encoder: Encoder, job: tuple[int, list[Item]]) -> tuple[ShardRecord, list[str]]:
    """Write one shard, unless it is there, and index it."""
    from webdataset import TarWriter  # not for those who only read

    number, items = job
    path = out / f"shard-{number:06}.tar"
    refusals = []
    if not path.exists():
        with (
            replacing(path) as temporary,
            temporary.open("wb") as file,
            TarWriter(file, "", "", 0o644, encoder=False, mtime=0) as tar,
        ):
            for item in items:
                try:
                    tar.write({"__key__": item.key, **encoder.files(item)})
                except (PictureError, ClipError) as error:
                    refusals.append(str(error))
    return index_shard(str(path), path.name), refusals
