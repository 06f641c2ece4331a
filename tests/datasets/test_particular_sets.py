"""Public sets that are particular: split by numbers or lists, drawn, or raw video."""

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from glc_train.datasets import SETS, DataSetError, prepare
from glc_train.datasets.catalogue import RawVideo, Source
from glc_train.datasets.picking import draw, raw_format
from glc_train.media import open_clip
from tests.datasets.small_sets import Shrink, contents, fast, picture, zipped
from tests.datasets.test_archives import pack
from tests.datasets.web import Web


@pytest.fixture
def ffhq(shrink: Shrink, tmp_path: Path) -> Path:
    """Three faces to train and one to test, with the owner's list."""
    shrink("ffhq", sources=(Source("train", count=3), Source("test", count=1)))
    faces = {f"images1024x1024/00000/{k:05}.png": picture(str(k)) for k in range(4)}
    entries = {
        str(k): {"image": {"file_path": name, "file_md5": hashlib.md5(data).hexdigest()}}
        for k, (name, data) in enumerate(faces.items())
    }
    return pack(tmp_path / "faces", {**faces, "ffhq-dataset-v2.json": json.dumps(entries).encode()})


def test_ffhq_is_split_by_number_and_checked_by_the_owners_list(ffhq: Path, tmp_path: Path) -> None:
    manifest = prepare("ffhq", tmp_path, options=fast(ffhq))
    assert manifest.counts == {"test": 1, "train": 3}
    assert "test/00003.png" in contents(tmp_path / "ffhq")
    shutil.rmtree(tmp_path / "ffhq")
    (ffhq / "images1024x1024/00000/00001.png").write_bytes(b"other")
    with pytest.raises(DataSetError, match=r"1 files differ from ffhq-dataset-v2\.json, the first train/00001\.png"):
        prepare("ffhq", tmp_path, options=fast(ffhq))
    (ffhq / "ffhq-dataset-v2.json").write_text("[]")
    with pytest.raises(DataSetError, match="is not the owner's list"):
        prepare("ffhq", tmp_path, options=fast(ffhq))


@pytest.fixture
def vimeo(web: Web, shrink: Shrink) -> Web:
    """Three septuplets: to train, to test, and in no list."""
    frames = [f"vimeo_septuplet/sequences/00001/{clip:04}/im{k}.png" for clip in (1, 2, 3) for k in range(1, 8)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in frames:
            archive.writestr(name, picture(name))
        archive.writestr("vimeo_septuplet/sep_trainlist.txt", "00001/0001\n")
        archive.writestr("vimeo_septuplet/sep_testlist.txt", "00001/0002\n\n")
        archive.writestr("vimeo_septuplet/readme.txt", "")
    web.files["/vimeo_septuplet.zip"] = buffer.getvalue()
    shrink("vimeo90k", sources=(Source("train", (f"{web.url}/vimeo_septuplet.zip",), "sequences", 3),))
    return web


def test_vimeo_keeps_its_lists_which_are_its_splits(vimeo: Web, tmp_path: Path) -> None:
    manifest = prepare("vimeo90k", tmp_path, options=fast())
    assert manifest.counts == {"rest": 1, "test": 1, "train": 1}
    assert manifest.frames
    names = set(contents(tmp_path / "vimeo90k"))
    assert len(names) == 23
    assert {"sep_trainlist.txt", "sep_testlist.txt", "sequences/00001/0001/im7.png"} < names
    (tmp_path / "vimeo90k/sep_trainlist.txt").unlink()
    assert prepare("vimeo90k", tmp_path, options=fast()) == manifest


def test_a_clip_that_lacks_a_frame_is_told(vimeo: Web, tmp_path: Path) -> None:
    frames = [f"sequences/00001/{clip:04}/im{k}.png" for clip in (1, 2, 3) for k in range(1, 8)]
    pack(tmp_path / "mine", dict.fromkeys(frames[:-1], b""))
    with pytest.raises(DataSetError, match="has not 7 frames"):
        prepare("vimeo90k", tmp_path, options=fast(tmp_path / "mine"))


@pytest.fixture
def openimages(web: Web, shrink: Shrink) -> Web:
    """Twenty pictures in the list, of which the first two drawn are gone."""
    names = [f"{k:016x}" for k in range(20)]
    web.files |= {f"/train/{name}.jpg": picture(name) for name in draw(names, 0)[2:]}
    web.files["/list.csv"] = "\n".join(["ImageID,Subset", *(f"{name},train" for name in names)]).encode()
    source = Source("train", (web.url + "/train/{}.jpg",))
    shrink("openimages", sources=(source,), listing=f"{web.url}/list.csv", listed=20)
    return web


def test_a_sample_is_drawn_with_a_seed_and_what_is_gone_is_replaced(openimages: Web, tmp_path: Path) -> None:
    order = draw([f"{k:016x}" for k in range(20)], 0)
    manifest = prepare("openimages", tmp_path, options=fast(count=5))
    assert set(contents(tmp_path / "openimages")) == {f"train/{name}.jpg" for name in order[2:7]}
    assert manifest.drawn is not None
    assert manifest.drawn.model_dump() == {"seed": 0, "count": 5, "of": 20}
    (tmp_path / f"openimages/train/{order[3]}.jpg").unlink()
    assert prepare("openimages", tmp_path, options=fast(count=5)) == manifest
    with pytest.raises(DataSetError, match="holds a sample of 5 drawn with seed 0"):
        prepare("openimages", tmp_path, options=fast(count=6))
    with pytest.raises(DataSetError, match="only 18 of its pictures are there"):
        prepare("openimages", tmp_path / "other", options=fast(count=19))


def test_a_list_of_another_length_is_refused(openimages: Web, shrink: Shrink, tmp_path: Path) -> None:
    shrink("openimages", listed=1_743_042)
    with pytest.raises(DataSetError, match="20 pictures in the list, of 1,743,042"):
        prepare("openimages", tmp_path, options=fast(count=5))


def test_coco_is_drawn_from_its_archive(web: Web, shrink: Shrink, tmp_path: Path) -> None:
    web.files["/val2014.zip"] = zipped(*(f"val2014/{k}.jpg" for k in range(10)))
    shrink("coco30k", sources=(Source("test", (f"{web.url}/val2014.zip",)),), drawn=4)
    manifest = prepare("coco30k", tmp_path, options=fast())
    assert manifest.counts == {"test": 4}
    assert manifest.drawn is not None
    assert manifest.drawn.of == 10
    (tmp_path / "coco30k" / manifest.files[0].path).write_bytes(b"")
    assert prepare("coco30k", tmp_path, options=fast()) == manifest
    assert prepare("coco30k", tmp_path / "other", options=fast(seed=1)).files != manifest.files


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    names = [str(k) for k in range(100)]
    assert draw(names, 3)[:10] == draw(reversed(names), 3)[:10]
    assert draw(names, 3) != draw(names, 4)
    assert draw(["a", "b", "c", "d"], 0) == ["d", "a", "c", "b"]  # the same in every version


def raw_clip(frames: int, width: int = 64, height: int = 48) -> bytes:
    return np.random.default_rng(frames).integers(0, 256, frames * width * height * 3 // 2, np.uint8).tobytes()


def test_raw_sequences_become_lossless_clips(web: Web, shrink: Shrink, tmp_path: Path) -> None:
    video = RawVideo(("Beauty", "Jockey"), 64, 48)
    for k, name in enumerate(video.names, 1):
        content = {f"{name}_64x48_120fps_420_8bit_YUV.yuv": raw_clip(k), "readme.txt": b""}
        archive = pack(tmp_path / f"{name}.7z", content)
        web.files[f"/{name}.7z"] = archive.read_bytes()
    sources = (Source("test", tuple(web.url + name for name in web.files), count=2),)
    shrink("uvg", sources=sources, video=video)
    manifest = prepare("uvg", tmp_path, options=fast())
    assert manifest.counts == {"test": 2}
    assert set(contents(tmp_path / "uvg")) == {"test/Beauty.mkv", "test/Jockey.mkv"}
    with open_clip(tmp_path / "uvg/test/Jockey.mkv") as clip:
        assert (clip.info.fps, len(list(clip))) == (120, 2)
    assert prepare("uvg", tmp_path, options=fast()) == manifest


def test_sequences_of_one_class_are_found_among_others(tmp_path: Path, shrink: Shrink) -> None:
    names = ("BasketballDrill", "BQMall", "PartyScene", "RaceHorses")
    files = {f"HEVC/{name}_64x48_50.yuv": raw_clip(1) for name in names}
    others = {f"HEVC/{name}.yuv": b"" for name in ("RaceHorses_32x16_30", "BasketballDrillText_64x48_50", "Kimono1")}
    pack(tmp_path / "mine", files | others)
    shrink("hevc_c", video=RawVideo(names, 64, 48))
    prepare("hevc_c", tmp_path, options=fast(tmp_path / "mine"))
    assert set(contents(tmp_path / "hevc_c")) == {f"test/{name}.mkv" for name in names}
    (tmp_path / "mine/HEVC/PartyScene_64x48_50.yuv").unlink()
    with pytest.raises(DataSetError, match="hevc_c lacks PartyScene: give raw sequences that are called as in PartyS"):
        prepare("hevc_c", tmp_path / "other", options=fast(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("name", "file", "found"),
    [
        ("hevc_b", "Kimono1_1920x1080_24.yuv", ("Kimono", 24)),
        ("hevc_c", "RaceHorses_832x480_30.yuv", ("RaceHorses", 30)),
        ("hevc_d", "RaceHorses_832x480_30.yuv", None),
        ("hevc_c", "BasketballDrillText_832x480_50.yuv", None),
        ("uvg", "Beauty_1920x1080_120fps_420_8bit_YUV.yuv", ("Beauty", 120)),
        ("mcl_jcv", "videoSRC01_1920x1080_30.yuv", ("videoSRC01", 30)),
    ],
)
def test_raw_files_are_told_by_name_and_size(name: str, file: str, found: tuple[str, int] | None) -> None:
    video = SETS[name].video
    assert video is not None
    assert raw_format(video, f"folder/{file}") == found


def test_a_raw_file_of_another_size_than_its_name_says_is_one_sentence(tmp_path: Path, shrink: Shrink) -> None:
    pack(tmp_path / "mine", {"A_64x48_30.yuv": raw_clip(1)[:-1]})
    shrink("hevc_e", sources=(Source("test", count=1),), video=RawVideo(("A",), 64, 48))
    with pytest.raises(ValueError, match="not a whole number of 64×48 frames"):
        prepare("hevc_e", tmp_path, options=fast(tmp_path / "mine"))
    assert contents(tmp_path / "hevc_e") == {}
