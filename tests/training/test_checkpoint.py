"""Checkpoint files: whole or not at all, never none that is sound, and not by way of the folder for temporary files."""

import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from glc_train.training import TrainingError
from glc_train.training.checkpoint import LAST, PREVIOUS, WholeFiles, newest_sound
from tests.training_harness import curve_overrides, train


def save(folder: Path, step: int) -> None:
    WholeFiles().save_checkpoint({"step": step, "weights": torch.arange(20_000.0)}, folder / LAST)


def step_of(path: Path | None) -> int | None:
    return None if path is None else torch.load(path, weights_only=True)["step"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50_000])


def lose_a_page(path: Path) -> None:
    """As a machine that loses its power before all was on the disk."""
    data = bytearray(path.read_bytes())
    data[40_000:44_096] = bytes(4096)
    path.write_bytes(data)


def flip(offset: int, bits: int) -> Callable[[Path], None]:
    """Damage in the archive's list of its parts, which no checksum covers."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + offset] ^= bits
        path.write_bytes(data)

    return damage


COMPRESSION, DISK = flip(10, 1), flip(34, 2)  # the second only PyTorch looks at


def test_only_the_previous_one_is_left(tmp_path: Path) -> None:
    assert newest_sound(tmp_path, tidy=True) is None
    save(tmp_path, 1)
    assert newest_sound(tmp_path, tidy=True) == tmp_path / LAST
    os.replace(tmp_path / LAST, tmp_path / PREVIOUS)
    assert newest_sound(tmp_path, tidy=True) == tmp_path / PREVIOUS


@pytest.mark.parametrize("damage", [truncate, lose_a_page, COMPRESSION, DISK, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_named_and_set_aside(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    damage(tmp_path / LAST)
    for tidy in (False, True):
        caplog.clear()
        assert newest_sound(tmp_path, tidy) == tmp_path / PREVIOUS
        assert caplog.messages == [f"{tmp_path / LAST}: damaged; going on from {tmp_path / PREVIOUS}"]
    save(tmp_path, 3)
    assert [step_of(tmp_path / name) for name in (LAST, PREVIOUS)] == [3, 1], "the damaged one took a sound one's place"
    damage(tmp_path / LAST)
    damage(tmp_path / PREVIOUS)
    with pytest.raises(TrainingError, match=r"last\.ckpt and .*previous\.ckpt: damaged, .* move them away"):
        newest_sound(tmp_path, tidy=True)


def test_a_sound_one_is_there_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    replace, fsync = os.replace, os.fsync
    events: list[str] = []

    def look(name: str) -> None:
        events.append(name)
        assert step_of(newest_sound(tmp_path, tidy=False)) in (1, 2)

    def looking(source: Path, target: Path) -> None:
        look("before")
        replace(source, target)
        look(Path(target).name)

    def durable(file: int) -> None:
        fsync(file)
        look("on the disk")

    monkeypatch.setattr(os, "replace", looking)
    monkeypatch.setattr(os, "fsync", durable)
    save(tmp_path, 2)
    assert events == ["on the disk", "before", PREVIOUS, "before", LAST]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, PREVIOUS]


def test_a_full_disk_keeps_the_old_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"last\.ckpt"):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert step_of(tmp_path / LAST) == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_training_leaves_the_folder_for_temporary_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    stage = tmp_path / "autoencoder"
    stage.mkdir()
    (stage / ".writing-killed.ckpt").write_bytes(b"left by a process that was killed")
    train([*curve_overrides(tmp_path, 2), "run=[autoencoder]", "callbacks.last.steps=1"])
    for name in (LAST, PREVIOUS):
        assert torch.load(stage / name, weights_only=True)["optimisers"] == ["AdamW", "AdamW of the discriminator"]
    assert not list(stage.rglob(".writing-*"))
