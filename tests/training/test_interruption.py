"""Ctrl-C, SIGTERM and SIGHUP: a checkpoint is saved, the exit code says so, and the same command goes on."""

import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glc_train.training import Interrupted, Stage
from tests.training_harness import ROOT, curve_overrides, logged, train, train_process

STEPS = 8
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def overrides(out: Path) -> list[str]:
    return [
        *curve_overrides(out, STEPS),
        "run=[autoencoder]",
        "callbacks.last.minutes=null",
        "stages.autoencoder.val_every=4",
        "data.val_pictures=2",
    ]


@pytest.fixture(autouse=True)
def _handled() -> Any:
    """As in a terminal: a shell has background jobs ignore Ctrl-C. And nothing of ours is left behind."""
    before = [signal.signal(number, signal.default_int_handler) for number in ENDING]
    yield
    left = [signal.signal(number, handler) for number, handler in zip(ENDING, before, strict=True)]
    assert left == [signal.default_int_handler] * len(ENDING)


def send(number: int, monkeypatch: pytest.MonkeyPatch, hook: str, calls: int) -> None:
    """Has this process get a signal when the stage's `hook` is called for the `calls`-th time."""
    original, seen = getattr(Stage, hook), []

    def called(self: Stage, *arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == calls:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(Stage, hook, called)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    return train(overrides(tmp_path_factory.mktemp("whole"))).parent


@pytest.mark.parametrize(
    ("number", "hook", "calls", "validations"),
    [
        (signal.SIGTERM, "training_step", 3, [4, 8]),
        (signal.SIGINT, "validation_step", 1, [8]),
        (signal.SIGHUP, "training_step", 4, [8]),  # after which a validation is due
    ],
)
def test_a_checkpoint_is_saved_and_gone_on_from(
    number: int,
    hook: str,
    calls: int,
    validations: list[int],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        send(number, patch, hook, calls)
        with pytest.raises(Interrupted) as ended:
            train(overrides(tmp_path))
    assert ended.value.code == 128 + number
    stage = tmp_path / "autoencoder"
    (said,) = [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and "ckpt" in record.getMessage()
    ]
    assert said == f"{signal.Signals(number).name}: saved {stage / 'last.ckpt'}, from which the same command goes on"
    assert not (stage / "weights.safetensors").exists()
    train(overrides(tmp_path))
    for column, steps in (("train/loss", range(STEPS)), ("val/psnr/stage_I", validations)):
        expected = logged(whole / "autoencoder", column)
        assert logged(stage, column) == pytest.approx({step: expected[step] for step in steps}, rel=1e-5), column


def test_ctrl_c_again_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glc_train.training.signals._IMPATIENT", 0.0)
    original = Stage.training_step

    def twice(self: Stage, *arguments: Any) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        original(self, *arguments)

    monkeypatch.setattr(Stage, "training_step", twice)
    with pytest.raises(Interrupted) as ended:
        train(overrides(tmp_path))
    assert ended.value.code == 130
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_whole_sweep_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(signal.SIGTERM, monkeypatch, "training_step", 2)
    lr = "stages.autoencoder.lr=1e-4,1e-3"
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *quiet, *overrides(tmp_path), lr])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)  # a program keeps its handlers to its end
    assert ended.value.code == 143
    assert (tmp_path / "0" / "autoencoder" / "last.ckpt").is_file()
    assert not (tmp_path / "1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_all_ranks_and_loader_processes_get_it(workers: int, tmp_path: Path) -> None:
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    long = "stages.autoencoder.steps=100000"
    options = [*overrides(tmp_path), *ranks, long, f"data.num_workers={workers}"]
    process = train_process(options, start_new_session=True)
    metrics = tmp_path / "autoencoder" / "csv" / "version_0" / "metrics.csv"
    deadline = time.monotonic() + 200
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if workers:
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    else:
        process.send_signal(signal.SIGTERM)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (130 if workers else 143), output
    assert "Traceback" not in output
    assert output.count("from which the same command goes on") == 1
    assert (tmp_path / "autoencoder" / "last.ckpt").is_file()
