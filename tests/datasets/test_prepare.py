"""Public sets in small, prepared from a local server and from what a user has."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from glc_train import cli
from glc_train.datasets import SETS, DataSetError, Options, check_folder, prepare
from glc_train.datasets.catalogue import Source
from glc_train.datasets.download import Fetcher
from tests.datasets.small_sets import Shrink, contents, fast, picture, zipped
from tests.datasets.test_archives import pack
from tests.datasets.web import Web


@pytest.fixture
def kodak(web: Web, shrink: Shrink) -> Web:
    """Three pictures instead of 24."""
    web.files |= {f"/kodim{k:02}.png": picture(str(k)) for k in (1, 2, 3)}
    sha1 = hashlib.sha1(b"".join(web.files.values())).hexdigest()
    shrink("kodak", sources=(Source("test", tuple(web.url + name for name in web.files), count=3),), sha1=sha1)
    return web


@pytest.fixture
def clic(web: Web, shrink: Shrink) -> Web:
    """Two archives of the test set and one to train."""
    web.files |= {
        "/CLIC2020Professional_test.zip": zipped("p/1.png", "p/2.png", "__MACOSX/p/._1.png", "p/readme.txt"),
        "/CLIC2020Mobile_test.zip": zipped("1.png"),
        "/professional_train_2020.zip": zipped("train/a.png"),
    }
    sha256 = hashlib.sha256(web.files["/CLIC2020Mobile_test.zip"]).hexdigest()
    sources = (
        Source("test", (f"{web.url}/CLIC2020Professional_test.zip",), "test/professional", 2),
        Source("test", (f"{web.url}/CLIC2020Mobile_test.zip",), "test/mobile", 1, None, sha256),
        Source("train", (f"{web.url}/professional_train_2020.zip",), "train/professional"),
    )
    shrink("clic2020", sources=sources)
    return web


CLIC_TEST = {
    "test/professional/1.png": picture("p/1.png"),
    "test/professional/2.png": picture("p/2.png"),
    "test/mobile/1.png": picture("1.png"),
}


def test_files_with_addresses_are_fetched_and_recorded(kodak: Web, tmp_path: Path) -> None:
    manifest = prepare("kodak", tmp_path, options=fast())
    assert contents(tmp_path / "kodak") == {f"test{name}": data for name, data in kodak.files.items()}
    assert manifest.counts == {"test": 3}
    assert manifest.files[0].sha256 == hashlib.sha256(kodak.files["/kodim01.png"]).hexdigest()
    assert check_folder(tmp_path / "kodak") == manifest


def test_again_all_is_verified_and_only_what_is_wrong_is_fetched(kodak: Web, tmp_path: Path) -> None:
    first = prepare("kodak", tmp_path, options=fast())
    kodak.requests.clear()
    assert prepare("kodak", tmp_path, options=fast()) == first
    assert kodak.requests == []
    (tmp_path / "kodak/test/kodim01.png").write_bytes(b"other")
    (tmp_path / "kodak/test/kodim03.png").unlink()
    assert prepare("kodak", tmp_path, options=fast()) == first
    assert {path for _, path, _ in kodak.requests} == {"/kodim01.png", "/kodim03.png"}
    assert check_folder(tmp_path / "kodak") == first


def test_a_run_that_broke_off_is_gone_on_with(kodak: Web, tmp_path: Path) -> None:
    kodak.statuses["/kodim03.png"] = [403]
    with pytest.raises(DataSetError, match=r"kodim03\.png: the server refuses"):
        prepare("kodak", tmp_path, options=Options(fetcher=Fetcher(jobs=1)))
    assert not (tmp_path / "kodak/manifest.json").exists()
    kodak.requests.clear()
    prepare("kodak", tmp_path, options=fast())
    assert {path for _, path, _ in kodak.requests} == {"/kodim03.png"}


def test_files_that_are_not_the_published_ones_are_refused(kodak: Web, tmp_path: Path) -> None:
    kodak.files["/kodim02.png"] = b"another picture"
    with pytest.raises(DataSetError, match="the files are not those that were published"):
        prepare("kodak", tmp_path, options=fast())
    assert not (tmp_path / "kodak/manifest.json").exists()


def test_archives_are_fetched_unpacked_and_removed(clic: Web, tmp_path: Path) -> None:
    manifest = prepare("clic2020", tmp_path, ["test"], fast())
    assert contents(tmp_path / "clic2020") == CLIC_TEST
    assert manifest.counts == {"test": 3}
    assert [origin.name for origin in manifest.sources] == [
        f"{clic.url}/CLIC2020Professional_test.zip",
        f"{clic.url}/CLIC2020Mobile_test.zip",
    ]
    assert manifest.sources[1].sha256 == SETS["clic2020"].sources[1].sha256


def test_another_split_joins_the_first(clic: Web, tmp_path: Path) -> None:
    one = prepare("clic2020", tmp_path, ["test"], fast())
    clic.requests.clear()
    both = prepare("clic2020", tmp_path, ["train"], fast())
    assert both.counts == {"test": 3, "train": 1}
    assert both.digest("test") == one.digest("test")
    assert {path for _, path, _ in clic.requests} == {"/professional_train_2020.zip"}
    assert prepare("clic2020", tmp_path, options=fast()) == both


def test_a_damaged_file_of_another_split_is_made_again_too(clic: Web, tmp_path: Path) -> None:
    prepare("clic2020", tmp_path, ["test"], fast())
    (tmp_path / "clic2020/test/mobile/1.png").unlink()
    manifest = prepare("clic2020", tmp_path, ["train"], fast())
    assert manifest.counts == {"test": 3, "train": 1}
    assert check_folder(tmp_path / "clic2020") == manifest


def test_a_wrong_count_is_told_before_anything_is_unpacked(clic: Web, shrink: Shrink, tmp_path: Path) -> None:
    first, *rest = SETS["clic2020"].sources
    shrink("clic2020", sources=(replace(first, count=250), *rest))
    with pytest.raises(DataSetError, match="2 pictures for test/professional instead of 250"):
        prepare("clic2020", tmp_path, ["test"], fast())
    assert not (tmp_path / "clic2020/test").exists()


def test_a_broken_archive_is_fetched_anew_the_next_time(clic: Web, tmp_path: Path) -> None:
    whole = clic.files["/CLIC2020Professional_test.zip"]
    clic.files["/CLIC2020Professional_test.zip"] = whole[:-50]
    with pytest.raises(DataSetError, match="damaged archive"):
        prepare("clic2020", tmp_path, ["test"], fast())
    clic.files["/CLIC2020Professional_test.zip"] = whole
    prepare("clic2020", tmp_path, ["test"], fast())
    assert contents(tmp_path / "clic2020") == CLIC_TEST


def test_a_wrong_checksum_ends_it(clic: Web, tmp_path: Path) -> None:
    clic.files["/CLIC2020Mobile_test.zip"] = zipped("other.png")
    with pytest.raises(DataSetError, match="the server sent another file"):
        prepare("clic2020", tmp_path, ["test"], fast())
    assert not (tmp_path / "clic2020/manifest.json").exists()


@pytest.mark.parametrize(
    "layout",
    [
        ["CLIC2020Professional_test/1.png", "CLIC2020Professional_test/2.png", "CLIC2020Mobile_test/1.png"],
        ["test/professional/1.png", "test/professional/2.png", "test/mobile/1.png", "valid/professional/9.png"],
    ],
)
def test_what_the_user_has_is_taken_from_folders(clic: Web, tmp_path: Path, layout: list[str]) -> None:
    pack(tmp_path / "mine", {name: picture(name) for name in layout})
    manifest = prepare("clic2020", tmp_path / "root", ["test"], fast(tmp_path / "mine"))
    assert set(contents(tmp_path / "root/clic2020")) == set(CLIC_TEST)
    assert manifest.counts == {"test": 3}
    assert clic.requests == []


def test_what_the_user_has_is_taken_from_archives(clic: Web, tmp_path: Path) -> None:
    for name, data in clic.files.items():
        (tmp_path / name[1:]).write_bytes(data)
    prepare("clic2020", tmp_path / "root", options=fast(tmp_path))
    expected = CLIC_TEST | {"train/professional/a.png": picture("train/a.png")}
    assert contents(tmp_path / "root/clic2020") == expected


def test_what_belongs_to_one_of_two_parts_is_asked_about(clic: Web, tmp_path: Path) -> None:
    pack(tmp_path / "mine", {f"{k}.png": b"" for k in range(3)})
    with pytest.raises(DataSetError, match=r"not clear to which part of clic2020 the file 0\.png belongs.*test/mobile"):
        prepare("clic2020", tmp_path / "root", ["test"], fast(tmp_path / "mine"))


def test_a_set_without_an_address_says_what_to_get_in_two_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "prepare", "imagenet", "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    assert "image-net.org, by account" in error
    assert f"glc data prepare imagenet --root {tmp_path} --from" in error


def test_imagenet_keeps_its_folders_of_classes(shrink: Shrink, tmp_path: Path) -> None:
    shrink("imagenet", sources=(Source("train", count=2),))
    names = ["train/n01/a.JPEG", "train/n02/a.JPEG", "val/ILSVRC2012_val_1.JPEG"]
    pack(tmp_path / "CLS-LOC", {name: picture(name) for name in names})
    manifest = prepare("imagenet", tmp_path, options=fast(tmp_path / "CLS-LOC"))
    assert set(contents(tmp_path / "imagenet")) == {"train/n01/a.JPEG", "train/n02/a.JPEG"}
    assert (tmp_path / "imagenet/train/n01/a.JPEG").samefile(tmp_path / "CLS-LOC/train/n01/a.JPEG")
    assert manifest.sources[0].name == "CLS-LOC"


def test_imagenet_is_taken_from_its_archives_of_classes(shrink: Shrink, tmp_path: Path) -> None:
    shrink("imagenet", sources=(Source("train", count=2),))
    (tmp_path / "mine").mkdir()
    for name in ("n01", "n02"):
        pack(tmp_path / f"mine/{name}.tar", {f"{name}_1.JPEG": picture(name)})
    prepare("imagenet", tmp_path, options=fast(tmp_path / "mine"))
    assert set(contents(tmp_path / "imagenet")) == {"train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG"}


def test_two_files_of_one_name_are_refused(shrink: Shrink, tmp_path: Path) -> None:
    shrink("celeba_hq", sources=(Source("all", count=2),))
    pack(tmp_path / "mine", {"a/1.png": b"", "b/1.png": b""})
    with pytest.raises(DataSetError, match=r"a/1\.png and .*b/1\.png would both be all/1\.png"):
        prepare("celeba_hq", tmp_path, options=fast(tmp_path / "mine"))


def test_too_little_space_is_told_before_the_download(clic: Web, tmp_path: Path, monkeypatch: Any) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataSetError, match=r"clic2020 needs about 0\.0 GB more and the disk has 0\.0 GB; make room"):
        prepare("clic2020", tmp_path, ["test"], fast())
    assert {method for method, _, _ in clic.requests} == {"HEAD"}


def test_two_runs_do_not_meet(kodak: Web, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".kodak.lock"), pytest.raises(DataSetError, match="is being prepared by another process"):
        prepare("kodak", tmp_path, options=fast())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"name": "clic"}, "no data set called clic"),
        ({"name": "clic2020", "splits": ["val"]}, "no split called val: choose of test, train, valid"),
        ({"name": "kodak", "options": Options(count=3)}, "must be a set that is drawn"),
        ({"name": "coco30k", "options": Options(count=0)}, "a positive number"),
        ({"name": "openimages", "options": Options(Path("x"))}, "leave --from out"),
        ({"name": "imagenet", "options": Options(Path("none"))}, "none: no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, call: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataSetError, match=sentence) as caught:
        prepare(root=tmp_path, **call)
    assert "\n" not in str(caught.value)


def test_the_command_prepares_into_the_folder_of_the_environment(
    kodak: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GLC_DATA", raising=False)
    assert cli.main(["data", "prepare", "kodak"]) == 1
    assert "give --root DIR, or set GLC_DATA" in capsys.readouterr().err
    monkeypatch.setenv("GLC_DATA", str(tmp_path))
    assert cli.main(["data", "prepare", "kodak"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'kodak'}: kodak, 3 test\n"


def test_as_a_process_without_a_network_it_is_one_sentence(tmp_path: Path) -> None:
    proxies = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    script = (
        "from glc_train.datasets import download; download._TRIES = 1; from glc_train.cli import main; exit(main())"
    )
    command = [sys.executable, "-c", script, "data", "prepare", "div2k", "--root", str(tmp_path)]
    run = subprocess.run(command, env=os.environ | proxies, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("glc: https://data.vision.ee.ethz.ch")
    assert run.stderr.count("\n") == 1
    assert "check the network" in run.stderr
    assert not (tmp_path / "div2k").exists()


def test_a_process_that_is_killed_is_gone_on_with_by_the_next(kodak: Web, shrink: Shrink, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    kodak.files = {"/kodim01.png": data}
    kodak.stall_after["/kodim01.png"] = 500_000
    source = Source("test", (f"{kodak.url}/kodim01.png",), count=1)
    shrink("kodak", sources=(source,), sha1=None)
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from glc_train.datasets import SETS, prepare; from glc_train.datasets.catalogue import Source\n"
        f"SETS['kodak'] = replace(SETS['kodak'], sources=({source!r},), sha1=None)\n"
        "prepare('kodak', Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        assert kodak.stalled.wait(60)
        part = tmp_path / "kodak/test/kodim01.png.part"
        while not part.exists() or part.stat().st_size < 400_000:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "kodak/manifest.json").exists()
    assert not (tmp_path / "kodak/test/kodim01.png").exists()
    kodak.requests.clear()
    prepare("kodak", tmp_path, options=fast())
    assert [int(asked.strip("bytes=-")) for method, _, asked in kodak.requests if method == "GET"] >= [400_000]
    assert (tmp_path / "kodak/test/kodim01.png").read_bytes() == data
