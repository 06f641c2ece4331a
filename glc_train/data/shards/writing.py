"""Folders to WebDataset shards and their index: the same bytes every time, in several processes, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from glc_train.data.clip_info import ClipError
from glc_train.data.pictures import PathLike, PictureError
from glc_train.data.shards.errors import ShardError
from glc_train.data.shards.index import INDEX_NAME, ShardIndex, ShardRecord, write_index
from glc_train.data.shards.samples import Encoder, Item
from glc_train.data.shards.scanning import index_shard
from glc_train.files import discard, replacing, write_text

_PLAN_NAME = ".plan.json"  # in a folder whose shards are not all written
_MEASURED = 16  # samples encoded beforehand to find how large they become
_HEADROOM = 2**26  # bytes of disk space left free


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is complete: which of how many, its samples, bytes, and why others are not in it."""

    number: int
    of: int
    path: Path
    samples: int
    size: int
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
    Raises: PictureError or ClipError if there is nothing to write; ShardError if `out` holds something else, the disk is
    too small or no sample can be read; ValueError for numbers out of range; OSError.
    """
    if min(jobs, 1 if samples is None else samples, megabytes) <= 0 or seed < 0:
        raise ValueError(f"samples, megabytes and jobs must be positive; got {samples}, {megabytes}, {jobs}.")
    out = Path(out)
    items = encoder.items(root)
    scale = _growth(encoder, items)
    shards = _shared_out(items, scale, samples, megabytes * 1e6, seed)
    names = [[item.key, str(item.path.name), item.size] for item in items]
    listing = hashlib.sha256(json.dumps(names).encode(errors="surrogateescape")).hexdigest()
    settings = {"samples": samples, "megabytes": megabytes, "seed": seed, "files": listing}
    plan = json.dumps({type(encoder).__name__: asdict(encoder), **settings})  # type: ignore[call-overload]
    _begin(out, plan, sum(item.size for item in items) * scale)
    records = []
    write = partial(_written, out, encoder)
    for number, (record, refusals) in enumerate(_in_processes(write, list(enumerate(shards)), jobs)):
        records.append(record)
        done(WrittenShard(number, len(shards), out / record.name, len(record.starts), record.size, refusals))
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


def _shared_out(
    items: Sequence[Item], scale: float, samples: int | None, limit: float, seed: int
) -> list[list[Item]]:
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


def _begin(out: Path, plan: str, size: float) -> None:
    """Make the folder `out`, or see that what is in it was begun by the same call."""
    out.mkdir(parents=True, exist_ok=True)
    begun = out / _PLAN_NAME
    index = out / INDEX_NAME
    found = begun.read_text() if begun.is_file() else ShardIndex(str(index)).plan if index.is_file() else None
    if found is None and any(out.iterdir()):
        raise ShardError(f"{out}: the folder is not empty; name a new one.")
    if found not in (None, plan):
        raise ShardError(f"{out}: holds shards of other files or options; name a new folder, or empty this one.")
    write_text(begun, plan)
    there = sum(path.stat().st_size for path in out.glob("*.tar"))
    free = shutil.disk_usage(out).free
    if size - there + _HEADROOM > free:
        raise ShardError(f"{out}: about {size / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free; make room.")


def _written(out: Path, encoder: Encoder, job: tuple[int, list[Item]]) -> tuple[ShardRecord, list[str]]:
    """Write one shard, unless it is there, and index it."""
    from webdataset import TarWriter  # not for those who only read

    number, items = job
    path = out / f"shard-{number:06}.tar"
    refusals = []
    if not path.exists():
        with replacing(path) as temporary:
            with temporary.open("wb") as file, TarWriter(file, "", "", 0o644, encoder=False, mtime=0) as tar:
                for item in items:
                    try:
                        tar.write({"__key__": item.key, **encoder.files(item)})
                    except (PictureError, ClipError) as error:
                        refusals.append(str(error))
    return index_shard(str(path), path.name), refusals


def _in_processes(
    write: Callable[[tuple[int, list[Item]]], tuple[ShardRecord, list[str]]],
    work: Sequence[tuple[int, list[Item]]],
    jobs: int,
) -> Iterator[tuple[ShardRecord, list[str]]]:
    if jobs == 1:
        yield from map(write, work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(write, work)
