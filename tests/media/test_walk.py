"""Folders searched: linked ones followed once, hidden ones left out, and all that is left out counted and named."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_train.data import find_clips
from glc_train.media import ClipError, PictureError, Reason, find_files, find_pictures, open_clip, write_picture
from glc_train.media.clips import frame_files
from tests.media.clip_files import grey


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_linked_folders_and_files_are_found(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/deep/b.png", "elsewhere/c.png", "photos/a.png")
    (tmp_path / "photos/album").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/one.png").symlink_to("a.png")
    found = find_pictures(tmp_path / "photos")
    assert names(found, tmp_path / "photos") == ["a.png", "album/c.png", "album/deep/b.png", "one.png"]


def test_each_folder_is_searched_once_by_its_own_name(tmp_path: Path) -> None:
    make(tmp_path, "zoo/a.png", "zoo/inner/b.png")
    (tmp_path / "album").symlink_to("zoo")  # before it in the alphabet
    (tmp_path / "zoo/inner/up").symlink_to(tmp_path)
    found = find_files(tmp_path, (".png",))
    assert names(found.files, tmp_path) == ["zoo/a.png", "zoo/inner/b.png"]
    assert found.left_out == {tmp_path / "album": Reason.SEEN, tmp_path / "zoo/inner/up": Reason.SEEN}


def test_a_loop_gives_a_clip_once(tmp_path: Path) -> None:
    make(tmp_path, "films/a.mp4")
    (tmp_path / "films/again").symlink_to(tmp_path / "films")
    (tmp_path / "films/itself").symlink_to("itself")
    assert find_clips(tmp_path / "films") == [tmp_path / "films/a.mp4"]


def test_all_that_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    make(tmp_path, "a.png", ".hidden.png", ".git/b.png", ".writing-x1/000000.png", "d.heic", "in/e.gif", "in/f.xmp")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = find_files(tmp_path, (".png",))
    assert names(found.files, tmp_path) == ["a.png"]
    assert found.remark == (
        f"{tmp_path}: left out 3 hidden (.git, .hidden.png, .writing-x1), 3 of another kind (d.heic, in/e.gif, "
        "in/f.xmp), 2 unreadable (gone.png, pipe.png)."
    )
    make(tmp_path, *(f"{k}.txt" for k in range(100)))
    remark = str(find_files(tmp_path, (".png",)).remark)
    assert "103 of another kind (0.txt, 1.txt, 10.txt, " in remark
    assert ", 17.txt and 93 more)" in remark
    make(tmp_path, "clean/a.png")
    assert find_files(tmp_path / "clean", (".png",)).remark is None


def test_a_name_that_is_not_utf_8_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).touch()
    remark = str(find_files(tmp_path, (".png",)).remark)
    assert r"caf\udce9.txt" in remark
    remark.encode()


def test_folders_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png", "locked/b.png", "c/d.png")
    real = os.scandir

    def scandir(folder: Path) -> object:  # rights do not stop the superuser
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_files(tmp_path, (".png",))
    assert names(found.files, tmp_path) == ["a.png", "c/d.png"]
    assert found.left_out == {tmp_path / "locked": Reason.UNREADABLE}
    with pytest.raises(PictureError, match="locked: the folder may not be read; check its rights"):
        find_pictures(tmp_path / "locked")
    with pytest.raises(ClipError, match="locked: the folder may not be read; check its rights"):
        find_clips(tmp_path / "locked")


def test_pictures_and_clips_log_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "a.png", "b.heic")
    for find in (find_pictures, find_clips):
        caplog.clear()
        find(tmp_path)
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
            f"{tmp_path}: left out 1 of another kind (b.heic)."
        ]


def test_a_folder_without_pictures_says_what_it_holds_instead(tmp_path: Path) -> None:
    make(tmp_path, "a.heic", ".b.png")
    with pytest.raises(PictureError, match=r"no pictures .* left out 1 hidden \(\.b\.png\), 1 of another kind \(a\.h"):
        find_pictures(tmp_path)


def test_a_folder_of_frames_is_searched_without_those_below(tmp_path: Path) -> None:
    write_picture(tmp_path / "1.png", grey(9))
    make(tmp_path, "Thumbs.db", "below/2.png")
    assert frame_files(tmp_path).left_out == {tmp_path / "Thumbs.db": Reason.OTHER_KIND}
    with open_clip(tmp_path) as clip:
        assert len(list(clip)) == 1


@settings(max_examples=30)
@given(links=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8, unique=True))
def test_no_web_of_links_gives_a_file_twice(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int]]
) -> None:
    root = tmp_path_factory.mktemp("web")
    make(root, *(f"{k}/{k}.png" for k in range(6)))
    for start, end in links:
        (root / str(start) / f"to{end}").symlink_to(root / str(end))
    found = find_files(root, (".png",))
    assert names(found.files, root) == [f"{k}/{k}.png" for k in range(6)]
    assert len(found.left_out) == len(links)
