"""The manifest of a prepared set, and `glc data verify` and `list`."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glc_train import cli
from glc_train.datasets import SETS, DataSetError, Manifest, check_folder, find_set, read_manifest
from glc_train.datasets.manifest import count_samples, find_problems, record_files, write_manifest


def prepared(folder: Path, frames: bool = False, **changes: Any) -> Manifest:
    """A set of three pictures of two splits and a list."""
    splits = {"a/1.png": "train", "a/2.png": "train", "b/1.png": "test", "list.txt": ""}
    for path in splits:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    files = record_files(folder, splits)
    values = {
        "name": "kodak",
        "version": "1",
        "licence": "none",
        "frames": frames,
        "counts": count_samples(files, frames),
        "drawn": None,
        "sources": (),
        "files": tuple(files),
    }
    manifest = Manifest(**{**values, **changes})
    write_manifest(folder, manifest)
    return manifest


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = prepared(tmp_path)
    assert read_manifest(tmp_path) == written
    assert written.counts == {"test": 1, "train": 2}
    assert written.files[0].sha256 == hashlib.sha256(b"a/1.png").hexdigest()
    assert check_folder(tmp_path) == written


def test_folders_of_frames_count_as_one_sample(tmp_path: Path) -> None:
    assert prepared(tmp_path, frames=True).counts == {"test": 1, "train": 1}


def test_the_digest_is_of_the_files_and_not_of_their_names(tmp_path: Path) -> None:
    one = prepared(tmp_path / "one")
    renamed = [file.model_copy(update={"path": "x" + file.path}) for file in reversed(one.files)]
    assert one.model_copy(update={"files": tuple(renamed)}).digest("train") == one.digest("train")
    assert one.digest("train") != one.digest("test")


def test_every_difference_is_found(tmp_path: Path) -> None:
    manifest = prepared(tmp_path)
    (tmp_path / "a/1.png").write_bytes(b"a/3.png")
    (tmp_path / "a/2.png").write_bytes(b"longer than before")
    (tmp_path / "b/1.png").unlink()
    problems = find_problems(tmp_path, manifest)
    assert problems == {
        "a/1.png": "other bytes, of another SHA-256",
        "a/2.png": "18 bytes instead of 7",
        "b/1.png": "missing",
    }
    with pytest.raises(DataSetError, match=r"3 of 4 files are not as prepared: a/1\.png .* glc data prepare kodak"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"counts": {"train": 428}}, "its counts are not those of its files"),
        ({"files": "none"}, "files: "),
        ({"more": 1}, "more: "),
        ({"files": [{"path": "../up", "size": 1, "sha256": "", "split": ""}]}, "a path that leaves the folder"),
        ({"files": [{"path": "/up", "size": 1, "sha256": "", "split": ""}]}, "a path that leaves the folder"),
    ],
)
def test_a_manifest_that_is_none_is_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "manifest.json"
    prepared(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataSetError, match=sentence) as caught:
        read_manifest(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_verify_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path)
    assert cli.main(["data", "verify", str(tmp_path)]) == 0
    assert "1 test, 2 train: all 4 files are as prepared" in capsys.readouterr().out
    (tmp_path / "b/1.png").unlink()
    assert cli.main(["data", "verify", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"glc: {tmp_path}: 1 of 4 files")
    assert cli.main(["data", "verify", str(tmp_path / "b")]) == 1
    assert "has no manifest.json" in capsys.readouterr().err


def test_list_names_every_set_without_pytorch() -> None:
    script = "import sys; from glc_train import cli; cli.main(['data', 'list']); sys.exit('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [name for name in SETS if f"{name:<12}" not in run.stdout] == []


def test_an_unknown_set_is_named_with_the_known_ones() -> None:
    with pytest.raises(DataSetError, match="no data set called clic: choose one of kodak, clic2020"):
        find_set("clic")


def test_the_catalogue_says_what_is_known() -> None:
    assert {name: {s: each.count(s) for s in each.splits} for name, each in SETS.items()} == {
        "kodak": {"test": 24},
        "clic2020": {"test": 428, "train": None, "valid": None},
        "div2k": {"train": 800, "valid": 100},
        "flickr2k": {"train": 2650},
        "openimages": {"train": None},
        "imagenet": {"train": 1281167},
        "lsdir": {"train": 84991},
        "vimeo90k": {"train": 91701},
        "uvg": {"test": 7},
        "mcl_jcv": {"test": 30},
        "hevc_b": {"test": 5},
        "hevc_c": {"test": 4},
        "hevc_d": {"test": 4},
        "hevc_e": {"test": 3},
        "ffhq": {"train": 60000, "test": 10000},
        "celeba_hq": {"all": 30000},
        "coco30k": {"test": None},
    }
