"""Crops from shards: one global order, pure in (seed, index), robust to what is wrong with the shards."""

import logging
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from glc_train.data import CropBatches, ShardCrops, ShardError, index_shards
from tests.data.shards.shard_files import number_of, number_shards, tar_of


def source(folder: Path, seed: int = 0, **options: Any) -> ShardCrops:
    return ShardCrops(str(folder / "shards"), crop_size=8, seed=seed, **options)


def shown(crops: ShardCrops, start: int, stop: int) -> list[int]:
    return [number_of(crops.sample(index)) for index in range(start, stop)]


def test_every_pass_shows_every_picture_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    number_shards(tmp_path, 34)
    crops = source(tmp_path, reading={"window": 2})
    passes = [shown(crops, 34 * k, 34 * (k + 1)) for k in range(3)]
    assert all(sorted(each) == list(range(34)) for each in passes)
    assert len(set(map(tuple, passes))) == 3
    assert shown(source(tmp_path, seed=1), 0, 34) != passes[0]


def test_samples_are_shuffled_within_windows_of_shards(tmp_path: Path) -> None:
    index = number_shards(tmp_path, 80)
    shard_of = {crop: shard for crop, shard in _shards_of(tmp_path, index.urls)}
    shards = [shard_of[number] for number in shown(source(tmp_path, reading={"window": 2}), 0, 80)]
    assert all(len(set(shards[k : k + 20])) == 2 for k in range(0, 80, 20))
    assert sum(a != b for a, b in pairwise(shards)) > 20
    assert len(set(shown(source(tmp_path, reading={"window": 8}), 0, 20))) == 20


def _shards_of(folder: Path, urls: list[str]) -> list[tuple[int, str]]:
    return [(number, url) for url in urls for number in shown(ShardCrops(url, crop_size=8, seed=0), 0, 10)]


def test_a_sample_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    number_shards(tmp_path, 25)
    first = source(tmp_path, reading={"window": 2})
    wanted = [first.sample(index) for index in range(60)]
    again = pickle.loads(pickle.dumps(source(tmp_path, reading={"window": 2})))
    assert all(torch.equal(again.sample(index), wanted[index]) for index in reversed(range(60)))
    assert torch.equal(source(tmp_path).sample(10**12), source(tmp_path).sample(10**12))


def test_two_ranks_see_what_one_sees(tmp_path: Path) -> None:
    number_shards(tmp_path, 25)
    one = CropBatches(source(tmp_path), batch_size=4)
    two = [CropBatches(source(tmp_path), batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for number in range(15):
        assert torch.equal(torch.cat([each.batch(number) for each in two]), one.batch(number))


@pytest.mark.parametrize(
    ("root", "numbers"),
    [
        ("shards", 25),
        ("shards/", 25),
        ("shards/index.safetensors", 25),
        ("shards/shard-*.tar", 25),
        ("shards/shard-{000000..000001}.tar", 20),
        ("shards/shard-{000000,000002}.tar", 15),
        ("shards/shard-000002.tar", 5),
    ],
)
def test_the_root_names_all_shards_or_some(tmp_path: Path, root: str, numbers: int) -> None:
    number_shards(tmp_path, 25)
    for start in (f"{tmp_path}/", f"file://{tmp_path}/"):
        crops = ShardCrops(start + root, crop_size=8, seed=0)
        assert len(set(shown(crops, 0, numbers))) == numbers == len({crops.name(k) for k in range(numbers)})
        assert len(set(shown(crops, 0, 2 * numbers))) == numbers


def test_roots_that_are_none(tmp_path: Path) -> None:
    number_shards(tmp_path, 5)
    with pytest.raises(ShardError, match=r"elsewhere/index\.safetensors: no such index"):
        ShardCrops(tmp_path / "elsewhere", crop_size=8, seed=0)
    with pytest.raises(ShardError, match=r"no shard .*shard-000001\.tar"):
        ShardCrops(f"{tmp_path}/shards/shard-{{000000..000001}}.tar", crop_size=8, seed=0)
    with pytest.raises(ShardError, match="name one set of shards; several are mixed by `MixedCrops`"):
        ShardCrops([tmp_path / "shards"] * 2, crop_size=8, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ShardError, match="cannot be opened"):
        ShardCrops("nosuch://bucket/shards", crop_size=8, seed=0)


def test_reading_options_are_checked(tmp_path: Path) -> None:
    number_shards(tmp_path, 5)
    for reading in ({"window": 0}, {"max_bad": 2}, {"windows": 3}):
        with pytest.raises(ShardError, match=r"^reading\.(windows?|max_bad)=\d: .+\.$"):
            source(tmp_path, reading=reading)


def test_a_corrupt_sample_is_named_once_and_replaced_by_its_neighbour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = number_shards(tmp_path, 25)
    whole = shown(source(tmp_path), 0, 50)
    shard, (member,) = index.members(13)
    path = Path(index.urls[shard])
    data = bytearray(path.read_bytes())
    data[member.offset + member.size // 2] ^= 1
    path.write_bytes(data)
    crops = source(tmp_path)
    with caplog.at_level(logging.WARNING):
        after = shown(crops, 0, 50)
    (record,) = caplog.records
    assert "Skipped sample 1 of 25" in record.getMessage()
    assert "its bytes are not those of the index" in record.getMessage()
    changed = [k for k in range(50) if after[k] != whole[k]]
    assert [k // 25 for k in changed] == [0, 1]
    assert all(after[k] == whole[k + 1 if (k + 1) % 25 else k - 24] for k in changed)
    assert [number_of(source(tmp_path).sample(k)) for k in reversed(range(50))] == after[::-1]


@pytest.mark.parametrize(
    ("damage", "lost", "words"),
    [
        (lambda path: path.unlink(), 10, "no such shard; fetch it"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), None, "the shard is cut short; fetch it again"),
    ],
)
def test_a_missing_or_truncated_shard_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any, lost: int | None, words: str
) -> None:
    index = number_shards(tmp_path, 40)
    damage(Path(index.urls[1]))
    with caplog.at_level(logging.WARNING):
        numbers = shown(source(tmp_path, reading={"max_bad": 0.5}), 0, 40)
    assert [words in record.getMessage() for record in caplog.records] == [True]
    assert "shard-000001.tar" in caplog.text
    left = len(set(numbers))
    assert left == 30 if lost else 30 < left < 40


def test_other_content_in_place_of_a_shard_never_passes(tmp_path: Path) -> None:
    index = number_shards(tmp_path, 40)
    Path(index.urls[1]).write_bytes(Path(index.urls[2]).read_bytes())
    numbers = shown(source(tmp_path, reading={"max_bad": 0.5}), 0, 40)
    assert len(set(numbers)) == 30


def test_too_many_bad_samples_stop_the_run(tmp_path: Path) -> None:
    index = number_shards(tmp_path, 40)
    Path(index.urls[1]).unlink()
    with pytest.raises(ShardError, match=r"5 of 40 samples cannot be used, more than .*max_bad=0\.1; repair"):
        shown(source(tmp_path), 0, 40)


def test_shards_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of([("a.cls", b"1"), ("a.txt", b"2")]))
    index_shards([str(tmp_path)])
    with pytest.raises(ShardError, match="1 of 1 samples cannot be used"):
        ShardCrops(str(tmp_path), crop_size=8, seed=0).sample(0)
