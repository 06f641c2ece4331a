"""Archives and folders: what is taken out of them, and what is refused."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import py7zr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.datasets import DataSetError, archives
from glc_train.datasets.archives import open_members, select

CONTENT = {"a/1.png": b"one", "a/b/2.png": b"two" * 1000, "empty.txt": b""}
KINDS = ("folder", "x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.7z")


def pack(path: Path, content: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    elif path.suffix == ".7z":
        with py7zr.SevenZipFile(path, "w") as seven:
            for name, data in content.items():
                seven.writef(io.BytesIO(data), name)
    elif path.suffix:
        mode: Any = "w:" + {".tgz": "gz", ".tar": ""}.get(path.suffix, path.suffix[1:])
        with tarfile.open(path, mode) as tar:
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        for name, data in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def unpack(path: Path, out: Path) -> None:
    with open_members(path) as members:
        list(members.extract({name: out / name for name in members.sizes}))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_out_as_they_went_in_under_the_names_asked_for(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    with open_members(pack(tmp_path / kind, CONTENT)) as members:
        assert members.sizes == {name: len(data) for name, data in CONTENT.items()}
        wanted = {"a/b/2.png": out / "deep/two.png", "empty.txt": out / "none.txt"}
        assert sorted(members.extract(wanted)) == sorted(wanted)
    assert tree(out) == {"deep/two.png": CONTENT["a/b/2.png"], "none.txt": b""}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
def test_an_archive_cut_anywhere_is_one_sentence_and_leaves_no_half_file(tmp_path: Path, kind: str) -> None:
    content = {f"{k}.png": os.urandom(3000) for k in range(3)}
    whole = pack(tmp_path / kind, content).read_bytes()
    out = tmp_path / "out"
    last = len(whole) - 30 if kind in ("x.zip", "x.7z") else len(whole) // 2 + 512  # a tar ends with zeros
    for end in (0, 1, 100, 512 + 3072, len(whole) // 2, last):
        (tmp_path / kind).write_bytes(whole[:end])
        with pytest.raises(DataSetError, match=r"damaged archive \([^\n]+\); fetch it again") as caught:
            unpack(tmp_path / kind, out)
        assert str(caught.value).startswith(str(tmp_path / kind))
    assert all(content[name] == data for name, data in tree(out).items())


@pytest.mark.parametrize("kind", ["x.zip", "x.7z"])
def test_a_damaged_member_is_found_by_its_checksum(tmp_path: Path, kind: str) -> None:
    data = os.urandom(5000)
    path = tmp_path / kind
    if kind == "x.zip":
        pack(path, {"a": data})
    else:
        with py7zr.SevenZipFile(path, "w", filters=[{"id": py7zr.FILTER_COPY}]) as archive:
            archive.writestr(data, "a")
    damaged = bytearray(path.read_bytes())
    damaged[2000] ^= 1
    path.write_bytes(damaged)
    with open_members(path) as members, pytest.raises(DataSetError, match="damaged archive"):
        list(members.extract({"a": tmp_path / "out/a"}))
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["../up.png", "/abs.png", "a/../../up.png", "a\\..\\up.png", "C:/x.png"])
@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = pack(tmp_path / kind, {"good.png": b"", name: b"bad"})
    with pytest.raises(DataSetError, match=r"not unpacked, for the path .* leaves the folder"):
        open_members(path)


@given(name=st.text(st.sampled_from("./\\:aC\0"), min_size=1, max_size=8))
def test_no_name_that_is_accepted_leads_outside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    archive = tmp_path_factory.getbasetemp() / "any.zip"
    archive.touch()
    checked = archives._Checked(archive)
    try:
        checked.add(name, 1, False, True)
    except DataSetError:
        return
    inside = Path("/r/s")
    assert Path(os.path.normpath(inside / name)).is_relative_to(inside)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(DataSetError, match=r"'a\.png' is a link or a device"):
        open_members(tmp_path / "x.tar")


def test_links_in_zip_and_7z_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "a.png").symlink_to("x.zip")
    with py7zr.SevenZipFile(tmp_path / "x.7z", "w") as seven:
        seven.write(tmp_path / "a.png", "a.png")
    for name in ("x.zip", "x.7z"):
        with pytest.raises(DataSetError, match=r"'a\.png' is a link or a device"):
            open_members(tmp_path / name)


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz", "x.7z"])
def test_bombs_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / kind, {"zeros": bytes(2_000_000)})
    with open_members(path):
        pass  # small ones are none
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 1 << 20)
    with pytest.raises(DataSetError, match="it would unpack to far more than its size explains"):
        open_members(path)


def test_a_tar_that_only_announces_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("zeros")
    member.size = 1 << 50
    (tmp_path / "x.tar").write_bytes(member.tobuf())
    with pytest.raises(DataSetError, match="far more than its size explains"):
        open_members(tmp_path / "x.tar")


def test_a_zip_does_not_give_more_than_it_announces(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a": bytes(100_000)})
    lying = path.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(lying)
    with open_members(path) as members:
        assert members.sizes == {"a": 10}
        with pytest.raises(DataSetError, match="damaged archive"):
            list(members.extract({"a": tmp_path / "out"}))


def test_files_of_a_folder_are_linked_and_keep_their_rights(tmp_path: Path) -> None:
    source = pack(tmp_path / "folder", CONTENT)
    (source / "a/1.png").chmod(0o444)
    (source / ".hidden").write_bytes(b"")
    (source / "a/link.png").symlink_to("1.png")
    with open_members(source) as members:
        assert set(members.sizes) == {*CONTENT, "a/link.png"}
        for _ in range(2):  # again: both names are of one file already
            list(members.extract({"a/1.png": tmp_path / "out/1.png", "a/link.png": tmp_path / "out/2.png"}))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "2.png"]
    assert (tmp_path / "out/1.png").samefile(source / "a/1.png")
    assert not (tmp_path / "out/2.png").is_symlink()
    assert stat.S_IMODE((source / "a/1.png").stat().st_mode) == 0o444


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    with open_members(pack(tmp_path / "folder", CONTENT)) as members:
        list(members.extract({name: tmp_path / "out" / name for name in CONTENT}))
    assert tree(tmp_path / "out") == CONTENT


def test_what_is_no_archive_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    with pytest.raises(DataSetError, match=r"x\.rar: no folder and no archive \(\.zip"):
        open_members(tmp_path / "x.rar")
    with pytest.raises(DataSetError, match="no such file or folder"):
        open_members(tmp_path / "none.zip")


def test_hidden_files_and_those_of_macos_are_not_selected() -> None:
    names = ["b/2.PNG", "a/1.png", "__MACOSX/a/1.png", "a/._1.png", ".x/1.png", "a/1.jpg"]
    assert select(names, (".png",)) == ["a/1.png", "b/2.PNG"]
