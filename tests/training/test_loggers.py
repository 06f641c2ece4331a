"""W&B, without an account: a resumed stage is the same run; what fails is one sentence."""

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from wandb import errors

from glc_train.training.loggers import forget_run, logger_options, wandb_problem
from tests.training_harness import curve_overrides, train_process

WANDB = OmegaConf.create({"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "x"})


def test_a_run_keeps_its_id_until_the_stage_starts_anew(tmp_path: Path) -> None:
    first = logger_options(WANDB, tmp_path)
    assert first["save_dir"] == str(tmp_path)
    assert logger_options(WANDB, tmp_path) == first
    forget_run(tmp_path)
    assert logger_options(WANDB, tmp_path)["id"] != first["id"]
    assert "id" not in logger_options(OmegaConf.create({**WANDB, "id": "given"}), tmp_path)
    other = OmegaConf.create({"_target_": "lightning.pytorch.loggers.CSVLogger"})
    assert logger_options(other, tmp_path) == {"save_dir": str(tmp_path)}


def program(out: Path, mode: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[int, str]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("HOME", str(out.parent))  # where an account would be found
    process = train_process([*curve_overrides(out, 2), "run=[autoencoder]", "logger=wandb", *more])
    output, _ = process.communicate(timeout=280)
    return process.returncode, output


def test_what_wandb_cannot_do_is_one_sentence() -> None:
    assert wandb_problem(errors.UsageError("No API key configured. Use `wandb login` to log in.\nMore.")) == (
        "logger=wandb: No API key configured. Use `wandb login` to log in; or set WANDB_MODE=offline, or leave "
        "logger=wandb out"
    )
    assert wandb_problem(errors.CommError("")) == (
        "logger=wandb: CommError; or set WANDB_MODE=offline, or leave logger=wandb out"
    )
    assert wandb_problem(ValueError("another")) is None


@pytest.mark.slow
def test_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = program(tmp_path / "out", "online", monkeypatch)
    assert code == 1, output
    assert "Traceback" not in output
    assert "wandb login" in output.splitlines()[-1]
    assert "WANDB_MODE=offline" in output.splitlines()[-1]


@pytest.mark.slow
def test_a_resumed_stage_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in (1, 2, 2):
        code, output = program(
            tmp_path / "out", "offline", monkeypatch, f"stages.autoencoder.module.settings.steps={steps}"
        )
        assert code == 0, output
    runs = list((tmp_path / "out" / "autoencoder" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2, output  # the third time the stage was done
    assert len({run.name.rpartition("-")[2] for run in runs}) == 1
