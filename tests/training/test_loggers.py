"""Loggers have the whole configuration; W&B, without an account: a run for each stage, all in one group."""

import os
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf
from wandb import errors

from glc_train.training.loggers import forget_run, logger_options, run_group, wandb_problem
from tests.training_harness import composed, curve_overrides, train, train_process

WANDB = OmegaConf.create({"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "x"})
SEEN: list[dict[str, Any]] = []


class Look(Callback):
    """Notes what the run of W&B is, as a callback of a user."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        assert isinstance(trainer.logger, WandbLogger)
        run = trainer.logger.experiment
        SEEN.append({"group": run.group, "stage": run.job_type, "id": run.id, "config": dict(run.config)})


def test_a_run_keeps_its_id_until_the_stage_starts_anew(tmp_path: Path) -> None:
    def options(config: Any) -> dict[str, Any]:
        return logger_options(config, tmp_path, "run", "joint")

    first = options(WANDB)
    assert first == {"save_dir": str(tmp_path), "group": "run", "job_type": "joint", "id": first["id"]}
    assert options(WANDB) == first
    forget_run(tmp_path)
    assert options(WANDB)["id"] != first["id"]
    own: dict[str, Any] = {"id": "given", "save_dir": "elsewhere", "group": "mine", "job_type": "training"}
    assert options(OmegaConf.merge(WANDB, own)) == {}
    other = OmegaConf.create({"_target_": "lightning.pytorch.loggers.CSVLogger"})
    assert options(other) == {"save_dir": str(tmp_path)}


def test_jobs_of_a_sweep_are_groups_of_their_own() -> None:
    assert run_group("run", Path("outputs/run")) == "run"
    assert run_group("run", Path("/somewhere/outputs/run/3")) == "run/3"
    assert len(run_group("run", Path("x" * 200))) == 128


def test_csv_and_tensorboard_have_the_whole_configuration(tmp_path: Path) -> None:
    overrides = [*curve_overrides(tmp_path, 1), "run=[autoencoder]", "seed=3"]
    train(overrides)
    expected = OmegaConf.to_container(composed(overrides), resolve=True)
    for path in ("csv/version_0/hparams.yaml", "tensorboard/hparams.yaml"):
        assert OmegaConf.to_container(OmegaConf.load(tmp_path / "autoencoder" / path)) == expected


@pytest.mark.parametrize(
    ("override", "there"),
    [
        ("~logger", set()),
        ("logger=csv", {"csv"}),
        ("logger=tensorboard", {"tensorboard"}),
        ("~logger.csv", {"tensorboard"}),
        ("logger=[tensorboard,csv]", {"csv", "tensorboard"}),
    ],
)
def test_the_loggers_are_those_that_are_asked_for(override: str, there: set[str], tmp_path: Path) -> None:
    train([*curve_overrides(tmp_path, 1), "run=[autoencoder]", override])
    found = {path.name for path in (tmp_path / "autoencoder").iterdir() if path.is_dir()}
    assert found - {"panels"} == there


def test_stages_are_runs_of_one_group_and_a_resumed_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    SEEN.clear()
    overrides = ["logger=wandb", "name=two", "+callbacks.look._target_=tests.training.test_loggers.Look"]
    overrides = [*curve_overrides(tmp_path / "two", 1), "run=[autoencoder,transform]", *overrides]
    for steps in (1, 2):
        train([*overrides, f"stages.transform.steps={steps}"])
    wandb.teardown()
    names = ["autoencoder", "transform", "transform"]
    assert [(seen["group"], seen["stage"]) for seen in SEEN] == [("two", name) for name in names]
    ids = [seen["id"] for seen in SEEN]
    assert ids[1] == ids[2]
    assert ids[0] != ids[1]
    assert SEEN[2]["config"]["stages"]["transform"]["steps"] == 2
    assert not (tmp_path / "two/autoencoder/csv").exists()


def program(out: Path, mode: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[int, str]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("HOME", str(out.parent))  # where an account would be found
    process = train_process([*curve_overrides(out, 2), "run=[autoencoder]", "logger=[csv,wandb]", *more])
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
        code, output = program(tmp_path / "out", "offline", monkeypatch, f"stages.autoencoder.steps={steps}")
        assert code == 0, output
    runs = list((tmp_path / "out" / "autoencoder" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2, output  # the third time the stage was done
    assert len({run.name.rpartition("-")[2] for run in runs}) == 1
