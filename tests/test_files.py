"""Files that appear whole or not at all: where they go, with which rights, and what is said of a full disk."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measures import model_config
from glc_train import save_codec
from glc_train.evaluation import Curve, plot_rate_distortion
from glc_train.files import discard, replacing, write_bytes, write_text
from glc_train.media import ClipInfo, write_clip, write_picture
from glc_train.media.pictures import SUFFIXES
from glc_train.weights import build_codec
from tests.full_disk import full_disk

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def write_frames(path: Path) -> None:
    with write_clip(path, ClipInfo(64, 64, Fraction(25), "bt709", False)) as clip:
        for _ in range(5):
            clip.write(NOISE)


def write_weights(path: Path) -> None:
    config = model_config()
    save_codec(build_codec(config), config, path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "results.json": lambda path: write_text(path, "{}\n" * 1000),
    "clip.mp4": write_frames,
    "clip.y4m": write_frames,
    "frames": write_frames,
    "weights.safetensors": write_weights,
    "plot.png": lambda path: plot_rate_distortion([Curve("a", ({"bpp": 0.1, "psnr": 20.0},))], [], path),
    **{f"picture{suffix}": lambda path: write_picture(path, NOISE) for suffix in SUFFIXES},
}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", WRITERS)
def test_the_umask_decides_about_a_new_file_and_a_link_and_the_mode_of_an_old_one_stay(
    name: str, tmp_path: Path
) -> None:
    path, link = tmp_path / "new" / name, tmp_path / f"link{Path(name).suffix}"
    with umask(0o027):
        WRITERS[name](path)
    assert mode(path) == (0o750 if path.is_dir() else 0o640)
    if path.is_dir():
        for frame in path.iterdir():
            frame.unlink()
    path.chmod(0o711)
    before = path.stat().st_ino
    link.symlink_to(path)
    WRITERS[name](link)
    assert link.is_symlink()
    assert path.stat().st_ino != before
    assert mode(path) == 0o711
    assert os.listdir(path.parent) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_of_the_output_and_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(b"old")
    with full_disk(700), pytest.raises((OSError, ValueError)) as caught:
        WRITERS[name](path)
    assert str(path) in str(caught.value)
    assert "File too large" in str(caught.value)
    assert ".writing-" not in str(caught.value)
    assert {file.read_bytes() for file in tmp_path.iterdir()} == ({b"old"} if path.suffix else set())


def test_a_full_disk_names_the_output_whoever_wrote(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*/out\.bin'"), replacing(tmp_path / "out.bin"):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    with pytest.raises(FileNotFoundError, match=r"input\.bin"), replacing(tmp_path / "out.bin"):
        (tmp_path / "input.bin").read_bytes()
    assert os.listdir(tmp_path) == []


def test_a_link_to_nowhere_yet_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to("folder/target")
    write_text(tmp_path / "link.txt", "text")
    assert (tmp_path / "folder" / "target").read_text() == "text"
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_loops_and_devices_are_refused_and_stay(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("loop", "pipe"):
        with pytest.raises(OSError, match=rf"'{tmp_path / name}'"):
            write_bytes(tmp_path / name, b"x")
    assert (tmp_path / "loop").is_symlink()
    assert (tmp_path / "pipe").is_fifo()


def test_a_library_that_puts_a_private_file_in_its_place_changes_no_rights(tmp_path: Path) -> None:
    with umask(0o022), replacing(tmp_path / "a") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert mode(tmp_path / "a") == 0o644


def test_text_with_names_that_are_not_utf_8_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "table.csv", os.fsdecode(b"caf\xe9.png,1"))
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "caf\\udce9.png,1"


def test_discarding_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name in ("link", "absent"):
        discard(tmp_path / name)
    assert os.listdir(tmp_path) == ["folder"]
