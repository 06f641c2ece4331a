"""Shards from a web server: each node fetches its share, what breaks off is tried again, the cache is sound."""

import gc
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from glc_train.data import CropBatches, MixedCrops, ShardCrops, ShardError
from glc_train.data.shards import addresses
from glc_train.data.shards.cache import ShardCache
from glc_train.data.source import check_ranks
from tests.data.shards.shard_files import number_of, number_shards
from tests.data.shards.store import Store, serve


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    number_shards(tmp_path, 48)
    with serve(tmp_path / "shards") as served:
        yield served


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(addresses, "_LONGEST_WAIT", 0.01)


def source(url: str | Path, **reading: Any) -> ShardCrops:
    return ShardCrops(str(url), crop_size=8, seed=0, reading=reading)


def shown(crops: ShardCrops, count: int = 48) -> list[int]:
    return [number_of(crops.sample(index)) for index in range(count)]


def data_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "pictures").rglob("*.png"))


def passes(batches: CropBatches, count: int, workers: int = 0) -> list[Tensor]:
    return list(islice(DataLoader(batches, batch_size=None, num_workers=workers), count))


def test_a_web_server_gives_what_the_folder_gives(store: Store, tmp_path: Path) -> None:
    assert shown(source(store.url)) == shown(source(tmp_path / "shards"))
    assert shown(source(f"{store.url}/shard-{{000000..000002}}.tar"), 30) == shown(
        source(f"{tmp_path}/shards/shard-{{000000..000002}}.tar"), 30
    )


@pytest.mark.parametrize(("nodes", "workers"), [(1, 0), (2, 2), (3, 0)])
def test_each_node_fetches_only_its_share(tmp_path: Path, nodes: int, workers: int) -> None:
    """A node's two ranks have their cache in common; all nodes together fetch the data set once in a pass."""
    number_shards(tmp_path, 96, samples=24)
    ranks = 2 * nodes
    seen = []
    with serve(tmp_path / "shards") as store:
        for rank in range(ranks):
            crops = source(store.url, cache=str(tmp_path / f"cache {rank // 2}"), ahead_mb=1e-6, connections=1)
            batches = CropBatches(crops, batch_size=4, rank=rank, world_size=ranks)
            seen.append(passes(batches, 24 // ranks, workers))
    fetched = sum(size for name, size in store.sent.items() if name.endswith(".tar"))
    next_pass = ranks * workers * 2 * 4 / 96  # what each worker loads in advance: two batches
    assert 0.99 < fetched / data_bytes(tmp_path) <= 1.1 + next_pass
    one = CropBatches(source(tmp_path / "shards"), batch_size=4 * ranks)
    for number, batch in enumerate(zip(*seen, strict=True)):
        assert torch.equal(torch.cat(batch), one.batch(number))


def test_a_worker_leaves_the_connections_of_its_parent_alone(store: Store) -> None:
    url = f"{store.url}/shard-000000.tar"
    wanted = addresses.read_part(url, 0, 9)
    for _ in range(2):
        worker = multiprocessing.get_context("fork").Process(target=gc.collect)
        worker.start()
        worker.join(20)
        assert worker.exitcode == 0
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(addresses.read_part, url, 0, 9).result(timeout=20) == wanted


def test_mid_pass_nothing_that_went_before_is_fetched(store: Store, tmp_path: Path) -> None:
    batches = CropBatches(source(store.url, ahead_mb=1e-6, connections=1), batch_size=4)
    batches.start_sample = 40
    wanted = CropBatches(source(tmp_path / "shards"), batch_size=4).batch(10)
    assert torch.equal(passes(batches, 1)[0], wanted)
    assert store.requests <= 6


def test_the_next_samples_are_fetched_while_these_are_used(store: Store) -> None:
    iterator = iter(CropBatches(source(store.url), batch_size=4))
    next(iterator)
    deadline = time.monotonic() + 10
    while store.requests < 48 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.requests >= 48
    iterator.close()  # type: ignore[attr-defined]


def test_no_more_is_fetched_ahead_than_memory_allows(store: Store, tmp_path: Path) -> None:
    iterator = iter(CropBatches(source(store.url, ahead_mb=data_bytes(tmp_path) / 48 * 8 / 1e6), batch_size=4))
    next(iterator)
    time.sleep(0.3)
    assert store.requests <= 4 + 9
    iterator.close()  # type: ignore[attr-defined]


def test_mixtures_fetch_ahead_as_well(store: Store, tmp_path: Path) -> None:
    def mixed(url: Path | str) -> CropBatches:
        factories = [
            lambda crop_size, seed, k=k: ShardCrops(f"{url}/shard-00000{k}.tar", crop_size, seed) for k in (0, 1)
        ]
        return CropBatches(MixedCrops(factories, [0.3, 0.7], crop_size=8, seed=0), batch_size=4)

    here = [mixed(tmp_path / "shards").batch(number) for number in range(6)]
    assert torch.equal(torch.cat(passes(mixed(store.url), 6)), torch.cat(here))


def test_what_breaks_off_is_tried_again(store: Store, tmp_path: Path) -> None:
    crops = source(store.url)
    store.statuses += [503, 500, 429, 503]
    store.cut += [0, 10, 20]
    assert shown(crops) == shown(source(tmp_path / "shards"))


def test_a_store_that_cannot_be_reached_stops_the_run(store: Store) -> None:
    crops = source(store.url)
    store.statuses += [503] * 20
    with pytest.raises(ShardError, match=r"cannot be fetched after 8 tries \(.*503.*\); check the network"):
        crops.sample(0)
    store.statuses.clear()
    store.ranges = False
    with pytest.raises(ShardError, match="whole files instead of parts"):
        crops.sample(0)


@pytest.mark.parametrize("follow", [False, True])
def test_missing_and_truncated_shards_are_replaced(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, follow: bool
) -> None:
    (store.folder / "shard-000001.tar").unlink()
    (store.folder / "shard-000002.tar").write_bytes((store.folder / "shard-000002.tar").read_bytes()[:5000])
    crops = source(store.url, max_bad=0.5)
    if follow:
        crops.follow(range(48))
    with caplog.at_level(logging.WARNING):
        numbers = shown(crops)
    crops.follow(())
    assert "no such shard" in caplog.records[0].getMessage() + caplog.records[1].getMessage()
    assert len(caplog.records) == 2
    assert numbers == shown(source(tmp_path / "shards", max_bad=0.5))
    assert 28 < len(set(numbers)) < 38


def test_the_cache_serves_the_next_pass_and_the_next_run(store: Store, tmp_path: Path) -> None:
    first = source(store.url, cache=str(tmp_path / "cache"))
    wanted = shown(first)
    asked = store.requests
    shown(first)
    assert shown(source(store.url, cache=str(tmp_path / "cache"))) == wanted
    assert store.requests == asked


@pytest.mark.parametrize(("run_mb", "least", "most"), [(1.0, 5, 5), (0.004, 10, 15)])
def test_neighbours_are_fetched_by_one_request(
    store: Store, tmp_path: Path, run_mb: float, least: int, most: int
) -> None:
    """Whole shards, or parts of them; a second pass and a second run find all in the cache."""
    crops = source(store.url, cache=str(tmp_path / "cache"), run_mb=run_mb)
    assert shown(crops) == shown(source(tmp_path / "shards"))
    assert least <= store.requests <= most
    fetched = sum(size for name, size in store.sent.items() if name.endswith(".tar"))
    assert fetched <= sum(path.stat().st_size for path in store.folder.glob("*.tar"))
    asked = store.requests
    shown(crops)
    shown(source(store.url, cache=str(tmp_path / "cache"), run_mb=run_mb))
    assert store.requests == asked


def test_processes_of_a_machine_fetch_a_run_once(store: Store, tmp_path: Path) -> None:
    crops = source(store.url, cache=str(tmp_path / "cache"), run_mb=1.0)
    seen = passes(CropBatches(crops, batch_size=4), 12, workers=2)
    assert sorted(number_of(crop) for batch in seen for crop in batch) == list(range(48))
    assert store.requests == 5


def test_what_runs_cannot_give_comes_by_itself(store: Store, tmp_path: Path) -> None:
    """From shards that are cut short, and where the cache is full."""
    here = shown(source(tmp_path / "shards"))
    assert shown(source(store.url, cache=str(tmp_path / "small"), cache_gb=1e-6, run_mb=1.0)) == here
    (store.folder / "shard-000002.tar").write_bytes((store.folder / "shard-000002.tar").read_bytes()[:5000])
    crops = source(store.url, cache=str(tmp_path / "cache"), run_mb=1.0, max_bad=0.5)
    assert shown(crops) == shown(source(tmp_path / "shards", max_bad=0.5))
    with pytest.raises(ShardError, match="as well, to keep them in"):
        source(store.url, run_mb=1.0)


def test_damage_in_the_cache_is_mended(store: Store, tmp_path: Path) -> None:
    wanted = shown(source(store.url, cache=str(tmp_path / "cache")))
    kept = sorted((tmp_path / "cache").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:700])
    kept[1].write_bytes(bytes(kept[1].stat().st_size))
    kept[2].unlink()
    asked = store.requests
    assert shown(source(store.url, cache=str(tmp_path / "cache"))) == wanted
    assert store.requests > asked
    asked = store.requests
    assert shown(source(store.url, cache=str(tmp_path / "cache"))) == wanted
    assert store.requests == asked


def test_the_cache_keeps_its_limit(tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), limit_gb=1e-3, own=[f"{k:064}" for k in range(40)])
    for k in range(40):
        cache.write(f"{k:064}", 0, os.urandom(100_000))
        used = sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir())
        assert used <= 1_050_000
    assert used > 800_000
    assert cache.read(f"{0:064}", 5, 10) != b""  # the first are kept


def test_data_sets_out_of_use_make_way(tmp_path: Path) -> None:
    old, new = f"{1:064}", f"{2:064}"
    ShardCache(str(tmp_path), 1e-3, [old]).write(old, 0, os.urandom(990_000))
    ShardCache(str(tmp_path), 1e-3, [new]).write(new, 0, b"new")
    assert ShardCache(str(tmp_path), 1e-3, [new]).read(new, 0, 3) == b""  # the other may be in use
    os.utime(tmp_path / f"{old}.shard", (0, 0))
    ShardCache(str(tmp_path), 1e-3, [new]).write(new, 0, b"new")
    assert ShardCache(str(tmp_path), 1e-3, [new]).read(new, 0, 3) == b"new"
    assert not (tmp_path / f"{old}.shard").exists()


def test_a_cache_that_cannot_be_made_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="the cache cannot be made"):
        source(store.url, cache=str(tmp_path / "file"))


def _read_for_ever(url: str, cache: str) -> None:
    crops = source(url, cache=cache)
    while True:
        shown(crops)


def test_a_killed_run_leaves_the_cache_sound(store: Store, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    child = multiprocessing.get_context("fork").Process(target=_read_for_ever, args=(store.url, cache))
    child.start()
    while store.requests < 10 and child.is_alive():
        time.sleep(0.001)
    child.kill()
    child.join()
    assert shown(source(store.url, cache=cache)) == shown(source(tmp_path / "shards"))


def test_fewer_samples_than_processes_are_refused(tmp_path: Path) -> None:
    number_shards(tmp_path, 3)
    check_ranks(source(tmp_path / "shards"), 3)
    with pytest.raises(ValueError, match="3 training samples are too few for 4 processes"):
        check_ranks(source(tmp_path / "shards"), 4)
