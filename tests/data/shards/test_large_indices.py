"""Ten million samples: an index that opens at once, any place found at once, little memory."""

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glc_train.data import ShardIndex
from glc_train.data.shards.index import ShardRecord, write_index
from glc_train.data.shards.order import ShardOrder


@pytest.fixture(scope="module")
def index_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 shards of 1,000 samples of one file."""
    path = tmp_path_factory.mktemp("large") / "index.safetensors"
    size = np.full(1000, 100_000, np.uint32)
    offset = np.arange(1000, dtype=np.int64) * 101_376 + 512
    files: dict[str, Any] = {"offset": offset, "size": size, "crc32": size, "suffix": np.zeros(1000, np.uint16)}
    starts = np.arange(1000, dtype=np.int64)
    write_index(
        path, [ShardRecord(f"shard-{k:06}.tar", 2**27, "0" * 64, ["jpg"], files, starts) for k in range(10_000)]
    )
    return path


def test_ten_million_samples(index_file: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    index = ShardIndex(str(index_file))
    order = ShardOrder(index.ends - index.counts, index.counts, seed=0, window=16)
    assert index.members(order[0])[1][0].size == 100_000
    assert time.process_time() - start < 3
    assert len(index) == 10_000_000
    ranks, batch = 1024, 8
    for step in (0, 1, 10**6):  # the place of each rank's next batch
        places = [(step * ranks + rank) * batch for rank in range(0, ranks, 100)]
        assert len({order[place] for place in places}) == len(places)
    random = np.random.default_rng(0)
    took = []
    for place in random.integers(0, 10**9, 20):
        begin = time.process_time()
        index.members(order[int(place)])
        took.append(time.process_time() - begin)
    assert np.median(took) < 0.05
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 300  # MB


def test_a_pass_over_ten_million_is_complete_where_it_is_looked_at(index_file: Path) -> None:
    index = ShardIndex(str(index_file))
    order = ShardOrder(index.ends - index.counts, index.counts, seed=0, window=16)
    windows = [{order[16_000 * window + k] for k in range(16_000)} for window in (0, 624)]
    assert all(len(window) == 16_000 and len({number // 1000 for number in window}) == 16 for window in windows)
    assert not windows[0] & windows[1]
