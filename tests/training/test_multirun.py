"""Sweeps: each job in its own folder, an objective to optimise, and one table over all jobs."""

import csv
import runpy
import sys
from pathlib import Path
from typing import cast

import pytest
from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.strategies.launchers.subprocess_script import _hydra_subprocess_cmd
from omegaconf import OmegaConf

from glc_train.training import LogError, TrainingError, as_single_run, claim_job_folder, read_objective, sweep_table
from tests.training_harness import ROOT, composed, tiny_overrides, train, train_process

NO_LPIPS = ["stages.autoencoder.picture.lpips=0", "stages.joint.picture.lpips=0"]
PARSER = OverridesParser.create()
LAMBDAS = "stages.transform.rate.lambdas"


def sweep(overrides: list[str]) -> str:
    """Runs `train.py`; what it printed."""
    process = train_process(overrides)
    try:
        output, _ = process.communicate(timeout=580)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return str(output)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of stage I."""
    return train([*tiny_overrides(tmp_path_factory.mktemp("start"), 1), *NO_LPIPS, "run=[autoencoder]"])


def test_a_grid_over_lambda_and_its_table(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [f"{LAMBDAS}=[8,2],[4,1]", "stages.transform.val_every=1", "run=[transform]", f"init_from={start}"]
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *quiet, *tiny_overrides(tmp_path, 2), *grid])
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    capsys.readouterr()
    assert sweep_table.main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row[LAMBDAS], row["stage"]) for row in rows] == [
        ("0", "[8,2]", "transform"),
        ("1", "[4,1]", "transform"),
    ]
    for row in rows:
        folder = tmp_path / row["job"]
        assert (folder / "weights.safetensors").is_file()
        for quality in range(4):
            assert float(row[f"bpp/q{quality}"]) > 0
            assert row[f"psnr/q{quality}"] in shown
        config = composed([f"out={folder}", "run=[transform]", "objective=val/psnr/q0"])
        assert read_objective(config) == pytest.approx(float(row["psnr/q0"]), rel=1e-4)
    trained = [OmegaConf.load(tmp_path / number / "config.yaml") for number in "01"]
    assert [list(config.stages.transform.rate.lambdas) for config in trained] == [[8, 2], [4, 1]]
    assert (tmp_path / "rate_distortion.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "transform").exists(), "a job wrote into the folder of the sweep"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers(launcher: str, tmp_path: Path) -> None:
    options = {
        "joblib": ["hydra.launcher.n_jobs=2"],
        "submitit_local": ["hydra.launcher.timeout_min=4", "hydra.launcher.cpus_per_task=1"],
    }[launcher]
    lr = "stages.autoencoder.lr=1e-4,1e-3"
    sweep(
        ["-m", f"hydra/launcher={launcher}", *options, *tiny_overrides(tmp_path, 2), *NO_LPIPS, "run=[autoencoder]", lr]
    )
    assert [job.stage for job in sweep_table.read_sweep(tmp_path)] == ["autoencoder"] * 2
    assert all((tmp_path / job / "weights.safetensors").is_file() for job in "01")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_work_on_every_job(tmp_path: Path) -> None:
    lr = "stages.autoencoder.lr=1e-4,1e-3"
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    sweep(["-m", *tiny_overrides(tmp_path, 2), *NO_LPIPS, *ranks, "run=[autoencoder]", lr])
    jobs = sweep_table.read_sweep(tmp_path)
    assert [float(job.overrides["stages.autoencoder.lr"]) for job in jobs] == [1e-4, 1e-3]
    for job in "01":
        facts = OmegaConf.load(tmp_path / job / "config.yaml")
        assert facts.trainer.devices == 2
        assert (tmp_path / job / "weights.safetensors").is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["0", "1"], "a rank swept on its own"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_and_a_name_of_special_characters(tmp_path: Path) -> None:
    name = """it's x=2 y, "z\""""
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    out = QuotedString(str(tmp_path / name), Quote.double).with_quotes()
    given = QuotedString(name, Quote.double).with_quotes()
    sweep(["-m", *tiny_overrides(tmp_path, 1), *NO_LPIPS, *ranks, "run=[autoencoder]", f"name={given}", f"out={out}"])
    assert (tmp_path / name / "0" / "weights.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="$/."), min_size=1))
def test_the_command_of_another_rank_says_the_same(name: str) -> None:
    override = f"name={QuotedString(name, Quote.single).with_quotes()}"
    hydra, argv = HydraConfig.instance(), sys.argv
    sys.argv = ["train.py", "-m", override]
    try:
        facts = {"run": {"dir": f"outputs/{name}"}, "runtime": {"cwd": str(ROOT)}}
        hydra.cfg = cast(HydraConf, OmegaConf.create({"hydra": facts}))
        with as_single_run(Path("/sweep", name, "0"), [override]):
            command, _ = _hydra_subprocess_cmd(1)
        assert HydraConfig.get().run.dir == f"outputs/{name}"
    finally:
        hydra.cfg, sys.argv = None, argv
    command = command[command.index(override) :]
    values = {each.key_or_group: each.value() for each in PARSER.parse_overrides(list(command))}
    expected = {"name": name, "out": f"/sweep/{name}/0", "hydra.run.dir": f"outputs/{name}"}
    assert {key: values[key] for key in expected} == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_optuna_optimises_the_objective(tmp_path: Path) -> None:
    output = sweep(
        [
            "hparams_search=optuna", *tiny_overrides(tmp_path, 2), *NO_LPIPS, "run=[autoencoder]",
            "stages.autoencoder.val_every=1", "objective=val/psnr/stage_I", "hydra.sweeper.direction=maximize",
            "hydra.sweeper.n_trials=2",
        ]
    )  # fmt: skip
    (results,) = tmp_path.glob("*/optimization_results.yaml")
    best = OmegaConf.load(results)
    jobs = sweep_table.read_sweep(results.parent)
    assert len(jobs) == 2, output
    assert best.best_value == pytest.approx(max(job.metrics["psnr/stage_I"] for job in jobs), rel=1e-6)
    assert set(sweep_table.changed(jobs)) == set(best.best_params)


@pytest.mark.parametrize("group", ["grid", "optuna"])
def test_searches_compose(group: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=[f"hparams_search={group}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN"
    for key in config.hydra.sweeper.params:
        assert OmegaConf.select(config, key) is not None, key


def job(folder: Path, overrides: list[str], columns: str | None) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(overrides)))
    (folder / ".hydra" / "config.yaml").write_text("stages: {transform: {}, joint: {}, of_my_own: {}}")
    if columns is not None:
        logs = folder / "joint" / "csv" / "version_0"
        logs.mkdir(parents=True)
        (logs / "metrics.csv").write_text(columns)


def test_jobs_that_failed_are_rows_too(tmp_path: Path) -> None:
    job(tmp_path / "0", ["a=1", "name=x"], "step,val/bpp/q0,val/psnr/q0\n1,0.5,20\n2,0.25,21\n")
    job(tmp_path / "2", ["a=[1,2]", "name=x"], None)
    job(tmp_path / "10", ["a=3", "name=x", "+b=4"], "step,train/loss\n1,0.5\n")
    assert sweep_table.rows(sweep_table.read_sweep(tmp_path)) == [
        ["job", "a", "+b", "stage", "bpp/q0", "psnr/q0"],
        ["0", "1", "", "joint", "0.25", "21"],
        ["2", "[1,2]", "", "no logs", "", ""],
        ["10", "3", "4", "joint", "", ""],
    ]
    assert sweep_table.main([str(tmp_path)]) == 0
    assert (tmp_path / "rate_distortion.png").is_file()


def test_the_last_stage_that_has_logs_is_shown(tmp_path: Path) -> None:
    job(tmp_path / "0", [], "step,val/psnr/q0\n1,20\n")
    (tmp_path / "0" / "joint").rename(tmp_path / "0" / "of_my_own")
    (shown,) = sweep_table.read_sweep(tmp_path)
    assert (shown.stage, shown.metrics) == ("of_my_own", {"psnr/q0": 20.0})
    assert not sweep_table.draw([shown], tmp_path / "never.png"), "a picture without a curve"


def test_no_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep_table.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    job(tmp_path / "0", [], None)
    (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text("[a=1")
    assert sweep_table.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "overrides.yaml is damaged" in error


def test_a_job_folder_is_not_shared(tmp_path: Path) -> None:
    for _ in range(2):
        claim_job_folder(tmp_path / "0", ["a=1", "b=[1,2]"])
    with pytest.raises(TrainingError, match="another name="):
        claim_job_folder(tmp_path / "0", ["a=2", "b=[1,2]"])
    (tmp_path / "0" / "job.yaml").write_text("[a=1")
    with pytest.raises(TrainingError, match=r"job\.yaml is damaged"):
        claim_job_folder(tmp_path / "0", ["a=1", "b=[1,2]"])


def test_an_objective_that_was_never_logged(tmp_path: Path) -> None:
    job(tmp_path / "0", [], "step,val/psnr/q0\n1,20\n")
    config = composed([f"out={tmp_path / '0'}", "objective=val/lpips/q0"])
    with pytest.raises(LogError, match=r"never logged 'val/lpips/q0'; it has val/psnr/q0"):
        read_objective(config)
    assert read_objective(composed([f"out={tmp_path / '0'}"])) is None
