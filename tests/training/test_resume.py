"""A killed run goes on by the same command, and its curve is that of a run that was never killed."""

import signal
import time
from pathlib import Path

import pytest
from filelock import FileLock

from glc_train.training import TrainingError
from tests.training_harness import curve_overrides, logged, train, train_process

STEPS = 24


def _overrides(out: Path) -> list[str]:
    return [*curve_overrides(out, STEPS), "run=[autoencoder]", "callbacks.last.steps=4", "callbacks.last.minutes=null"]


@pytest.mark.slow
def test_kill_and_go_on(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = train_process(_overrides(whole))
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output

    process = train_process(_overrides(killed))
    checkpoint = killed / "autoencoder" / "last.ckpt"
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoint.exists(), "killed before the first checkpoint"
    assert not (killed / "autoencoder" / "weights.safetensors").exists(), "killed after the end"

    process = train_process(_overrides(killed))
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert "goes on from" in output
    for column in ("train/loss", "train/loss/l1", "train/loss/discriminator"):
        expected = logged(whole / "autoencoder", column)
        assert len(expected) == STEPS if column == "train/loss" else expected
        resumed = logged(killed / "autoencoder", column)
        # What the killed process had not yet written to its log is lost; what it and its successor logged agrees.
        assert set(resumed) >= set(range(STEPS // 2 + 1, STEPS)) or column != "train/loss"
        assert resumed == pytest.approx({step: expected[step] for step in resumed}, rel=1e-5), column


def test_finished_stages_are_not_trained_again(tmp_path: Path) -> None:
    overrides = [*curve_overrides(tmp_path, 2), "run=[autoencoder]"]
    for expected in ("starts", "is done"):
        process = train_process(overrides)
        output, _ = process.communicate(timeout=280)
        assert process.returncode == 0, output
        assert f"stage autoencoder {expected}" in output.replace(":", "") or expected in output


def test_a_second_training_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    overrides = [*curve_overrides(tmp_path, 1), "run=[autoencoder]"]
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match=r"another training writes here; stop it"):
        train(overrides)
    assert not (tmp_path / "autoencoder").exists()
    train(overrides)
