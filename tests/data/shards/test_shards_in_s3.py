"""Shards in an object store that asks for an account: indexed, read, refused."""

from pathlib import Path

import pytest

from glc_train.cli import main as glc
from glc_train.data import ShardCrops
from tests.data.shards.s3 import serve_s3
from tests.data.shards.shard_files import number_of, number_shards


def test_shards_in_a_bucket_are_indexed_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = number_shards(tmp_path, 12, samples=4)
    (tmp_path / "shards/index.safetensors").unlink()
    with serve_s3(tmp_path / "shards") as (url, storage):
        options = [f"{name}={storage[name]}" for name in ("key", "secret")]
        options.append(f"client_kwargs.endpoint_url={storage['client_kwargs']['endpoint_url']}")
        given = [part for option in options for part in ("--storage", option)]
        index = tmp_path / "bucket.safetensors"
        assert glc(["data", "index", url, "--out", str(index), "--jobs", "1", *given]) == 0
        assert "12 samples in 3 shards" in capsys.readouterr().out
        crops = ShardCrops(str(index), crop_size=8, seed=0, reading={"storage": storage})
        assert sorted(number_of(crops.sample(place)) for place in range(12)) == list(range(12))
        assert crops.name(0).startswith("s3://bucket/shards/shard-00000")
        assert len(made) == 12


def test_storage_options_have_a_name_and_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("anon", "=true"):
        assert glc(["data", "index", "s3://bucket", "--out", "x", "--storage", wrong]) == 1
        assert f"--storage {wrong}: give OPTION=VALUE" in capsys.readouterr().err
