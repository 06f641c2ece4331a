"""Shards that are written: the same bytes every time, readable by WebDataset, resumable."""

import hashlib
from pathlib import Path

import pytest
import webdataset
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_train.cli import main as glc
from glc_train.data import PictureEncoder, ShardError, ShardIndex, index_shards, write_shards
from glc_train.media import PictureError
from glc_train.media.pictures import decode_picture
from tests.data.shards.shard_files import number_shards, tar_of, write_numbers


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_bytes_depend_on_files_and_options_alone(tmp_path: Path) -> None:
    pictures = write_numbers(tmp_path / "pictures", 25)
    write_shards(pictures, tmp_path / "one", PictureEncoder(), samples=10)
    write_shards(pictures, tmp_path / "two", PictureEncoder(), samples=10, jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert sorted(digests(tmp_path / "one")) == ["index.safetensors", *(f"shard-00000{k}.tar" for k in range(3))]
    write_shards(pictures, tmp_path / "other", PictureEncoder(), samples=10, seed=1)
    assert digests(tmp_path / "one") != digests(tmp_path / "other")


def test_webdataset_reads_every_picture_once(tmp_path: Path) -> None:
    number_shards(tmp_path, 25)
    shards = sorted(str(path) for path in (tmp_path / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len({sample["__key__"] for sample in samples}) == 25
    pictures = (tmp_path / "pictures").rglob("*.png")
    assert sorted(sample["png"] for sample in samples) == sorted(path.read_bytes() for path in pictures)


def test_an_index_says_where_the_bytes_are(tmp_path: Path) -> None:
    index = number_shards(tmp_path, 25)
    assert index.counts.tolist() == [10, 10, 5]
    found = []
    for number in range(25):
        shard, (member,) = index.members(number)
        data = Path(index.urls[shard]).read_bytes()
        assert len(data) == index.sizes[shard]
        assert hashlib.sha256(data).hexdigest() == index.sha256[shard]
        found.append(data[member.offset :][: member.size])
    assert sorted(found) == sorted(path.read_bytes() for path in (tmp_path / "pictures").rglob("*.png"))


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    number_shards(tmp_path, 25)
    shards = tmp_path / "shards"
    whole, kept = digests(shards), (shards / "shard-000000.tar").stat().st_mtime_ns
    plan = ShardIndex(str(shards / "index.safetensors")).plan
    for name in ("index.safetensors", "shard-000001.tar"):  # as a killed call leaves it
        (shards / name).unlink()
    (shards / ".plan.json").write_text(plan)
    (shards / ".writing-0123456789abcdef.tar").write_bytes(b"half")
    number_shards(tmp_path, 25)
    assert digests(shards) == whole
    assert (shards / "shard-000000.tar").stat().st_mtime_ns == kept
    with pytest.raises(ShardError, match="other files or options; name a new folder"):
        write_shards(tmp_path / "pictures", shards, PictureEncoder(), samples=5)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    write_numbers(tmp_path / "pictures", 2)
    with pytest.raises(ShardError, match="not empty"):
        write_shards(tmp_path / "pictures", tmp_path / "pictures", PictureEncoder())


def test_two_calls_do_not_write_to_one_folder(tmp_path: Path) -> None:
    write_numbers(tmp_path / "pictures", 2)
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ShardError, match="another call is writing there"):
        write_shards(tmp_path / "pictures", tmp_path / "out", PictureEncoder())


def test_a_disk_that_is_too_small_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_numbers(tmp_path / "pictures", 2)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ShardError, match=r"about 0 MB are needed and 0 MB are free"):
        write_shards(tmp_path / "pictures", tmp_path / "out", PictureEncoder())
    assert not list((tmp_path / "out").glob("*.tar"))


@pytest.mark.parametrize(("encoding", "suffix"), [("jpeg", "jpg"), ("webp", "webp"), ("png", "png"), (None, "jpg")])
def test_pictures_are_reduced_and_encoded(tmp_path: Path, encoding: str | None, suffix: str) -> None:
    pictures = write_numbers(tmp_path / "pictures", 3, side=32)
    index = write_shards(pictures, tmp_path / "out", PictureEncoder(short_side=20, format=encoding))  # type: ignore[arg-type]
    shard, (member,) = index.members(0)
    assert member.suffix == suffix
    data = Path(index.urls[shard]).read_bytes()[member.offset :][: member.size]
    assert decode_picture(data, "").shape == (20, 20, 3)


def test_shards_are_of_about_the_size_asked_for(tmp_path: Path) -> None:
    pictures = write_numbers(tmp_path / "pictures", 40)
    size = sum(path.stat().st_size for path in pictures.rglob("*.png"))
    index = write_shards(pictures, tmp_path / "out", PictureEncoder(), megabytes=size / 4e6)
    assert 4 <= len(index.urls) <= 5


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = write_numbers(tmp_path / "pictures", 5)
    (pictures / "broken.png").write_bytes(b"no picture")
    assert glc(["data", "shard", str(pictures), str(tmp_path / "out"), "--jobs", "1"]) == 1
    said = capsys.readouterr()
    assert "5 samples in 1 shard, 1 left out" in said.out
    assert "broken.png: not a readable picture" in said.err


def test_nothing_is_left_where_nothing_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    (pictures / "broken.png").write_bytes(b"no picture")
    assert glc(["data", "shard", str(pictures), str(out), "--jobs", "1"]) == 1
    assert f"glc: {pictures}: none of its files can be read; nothing was written." in capsys.readouterr().err
    write_numbers(pictures, 3)
    assert glc(["data", "shard", str(pictures), str(out), "--jobs", "1"]) == 1  # the same folder serves again
    assert ShardIndex(str(out / "index.safetensors")).urls


def test_shards_of_others_are_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "very/" * 30 + "long"  # needs an extended header
    first = [
        ("./a.png", b"A"),
        ("b.png", b"B"),
        ("a.cls", b"1"),
        ("__meta__.x", b""),
        (".hidden.png", b""),
        ("dir/a.PNG", b"C"),
    ]
    (tmp_path / "x-0.tar").write_bytes(tar_of(first))
    (tmp_path / "x-1.tar").write_bytes(tar_of([(f"{long}.seg.png", b"D")]))
    assert glc(["data", "index", str(tmp_path), "--jobs", "1"]) == 0
    assert "4 samples in 2 shards" in capsys.readouterr().out
    index = ShardIndex(str(tmp_path / "index.safetensors"))
    assert [[m.suffix for m in index.members(k)[1]] for k in range(4)] == [
        ["png", "cls"],
        ["png"],
        ["png"],
        ["seg.png"],
    ]
    elsewhere = index_shards([f"{tmp_path}/x-{{0..1}}.tar"], tmp_path / "other" / "place.safetensors")
    assert elsewhere.urls == [str(tmp_path / f"x-{k}.tar") for k in range(2)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_part_of_a_shard_passes_for_all_of_it(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 2000), min_size=1, max_size=5))
    whole = tar_of([(f"{k}.png", bytes([k + 1]) * size) for k, size in enumerate(sizes)])
    end = sum(512 + -(-size // 512) * 512 for size in sizes)
    path = tmp_path_factory.mktemp("cut") / "x.tar"
    path.write_bytes(whole[: data.draw(st.integers(0, end + 511))])
    with pytest.raises(ShardError, match=r"cut short|not an uncompressed tar"):
        index_shards([str(path)])
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(sizes) - 1).map(lambda k: end if k == 0 else 0))] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(ShardError):
        index_shards([str(path)])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of([("a.png", b"1"), ("a.png", b"2")]))
    with pytest.raises(ShardError, match=r"two files a\.png"):
        index_shards([str(tmp_path)])


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    number_shards(tmp_path, 3)
    path = tmp_path / "shards" / "index.safetensors"
    whole = path.read_bytes()
    for content in (b"", b"no index", whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ShardError, match=r"not an index of shards"):
            ShardIndex(str(path))
    path.unlink()
    with pytest.raises(ShardError, match="no such index; make one with `glc data index`"):
        ShardIndex(str(path))


def test_an_empty_folder_has_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no pictures in this folder"):
        write_shards(tmp_path, tmp_path / "out", PictureEncoder())
    with pytest.raises(ShardError, match="no shards there"):
        index_shards([str(tmp_path)])
