"""The benchmark of loading runs, and its references read the same files as ours."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import data as benchmark
from benchmarks.data_sets import Files, make_clips, make_large_index, make_pictures
from benchmarks.measures import apart
from glc_train.data import ShardCrops, ShardIndex

SMALL = [
    "--rounds", "1", "--batches", "1", "--batch-size", "2", "--pictures", "8", "--clips", "4", "--workers", "1",
    "--threads", "1", "--training-steps", "0", "--shards", "5",
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_pictures(tmp_path_factory.mktemp("made"), 8)


@pytest.mark.slow
def test_everything_is_measured_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data.json"
    benchmark.main(["--out", str(out), *SMALL])
    record = json.loads(out.read_text())
    assert {"command", "commit", "date", "hardware", "load_at_start", "options", "results"} <= set(record)
    for case in benchmark.CASES:
        figures = record["results"][case]["1_workers"]
        for ratio in figures["ratio"]["shards/webdataset"].values():
            assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
        assert set(figures["per_second"]) - {"encoded"} == {"folder", "shards", "pillow", "webdataset"}
    large = record["results"]["large"]
    assert large["samples"] == 5000
    assert large["worker_mb"] > 0
    assert "a second of a core" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["crops", "scaled"])
def test_ours_and_the_references_yield_the_same_kind_of_batch(case: str, pictures: Files) -> None:
    for name, loader in benchmark.loaders(case, pictures, 2).items():
        batch = next(iter(loader(0)))
        assert batch.shape == (2, 3, 256, 256), name
        assert batch.dtype == torch.float32, name
        assert -1 <= batch.min() < batch.max() <= 1, name


@pytest.mark.slow
def test_clips_of_ours_and_of_the_references(tmp_path: Path) -> None:
    for name, loader in benchmark.loaders("clips", make_clips(tmp_path, 4), 2).items():
        batch = next(iter(loader(0)))
        assert batch.shape == (2, 7, 3, 256, 256), name
        assert -1 <= batch.min() < batch.max() <= 1, name


def test_the_large_index_reads_from_real_shards(pictures: Files, tmp_path: Path) -> None:
    index = make_large_index(tmp_path, pictures.shards, 5, 100)
    assert len(ShardIndex(str(index))) == 500
    source = ShardCrops(str(index), crop_size=256, seed=0)
    assert all(source.sample(place).shape == (3, 256, 256) for place in (0, 499, 10**6))


@pytest.mark.slow
def test_a_loader_of_ten_million_samples_is_small_and_finds_any_of_them_at_once(
    pictures: Files, tmp_path: Path
) -> None:
    figures = apart(benchmark.large, make_large_index(tmp_path, pictures.encoded, 10_000, 1000), 16)
    assert figures["samples"] == 10_000_000
    assert figures["worker_mb"] < 300
    assert figures["milliseconds_to_a_crop_anywhere"]["median"] < 50


@pytest.mark.slow
def test_waiting_is_a_share(pictures: Files) -> None:
    options = benchmark.parse([*SMALL, "--training-steps", "1"])
    shares = benchmark.waiting(pictures, options)
    assert set(shares) == {"0_workers", "1_workers"}
    assert all(0 < figures["share"] < 1 for figures in shares.values())


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--workers", "0"], ["--cases", "all"]])
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse(arguments)
