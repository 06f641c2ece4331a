"""Whatever is set for the Trainer, its callbacks and its data has its effect, or is refused by name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from glc_train import load_codec
from glc_train.training import GradientAveraging, LogError, Sharding, Stage, TrainingError, run_recipe
from glc_train.training.checkpoint import BEST, LAST
from glc_train.training.compilation import compile_blocks
from glc_train.training.trainer import make_trainer
from tests.tiny_stages import image_stage
from tests.training_harness import composed, curve_overrides, logged, train

STEPS = 4
METRIC = "val/psnr/stage_I"
HERE = "tests.training.test_trainer"


class Watch(Callback):
    """A callback of a user, which notes what the Trainer has and does; the last one that was made is `seen`."""

    seen: "Watch"

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.sanity_checks = 0
        self.epochs = 0
        Watch.seen = self

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        self.sanity_checks += 1

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.epochs += 1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.trainer = trainer
        self.weights = next(pl_module.codec.parameters()).detach().clone()
        self.draws = trainer.train_dataloader.dataset
        self.callbacks = [type(callback).__name__ for callback in trainer.callbacks]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        trainer.should_stop |= self.stop_after == int(pl_module.train_step)


class FewCrops(lightning.LightningDataModule):
    """Data of a user: three batches of random crops and a picture; it knows nothing of crop sizes and seeds."""

    def __init__(self, batch_size: int = 9, batches: int = 3) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.batches = batches

    def train_dataloader(self) -> DataLoader[Any]:
        crops = torch.rand(self.batches * self.batch_size, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        return DataLoader(list(crops * 2 - 1), batch_size=self.batch_size)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([torch.zeros(1, 3, 64, 64)], batch_size=None)  # type: ignore[arg-type]


class Nothing(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(())


class NoCrops(FewCrops):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Nothing(), batch_size=None)


def run(out: Path, *overrides: str, steps: int = STEPS) -> Watch:
    """Trains stage I with the callback of a user."""
    train(
        [
            *curve_overrides(out, steps),
            "run=[autoencoder]",
            "stages.autoencoder.val_every=2",
            f"+callbacks.mine._target_={HERE}.Watch",
            *overrides,
        ]
    )
    return Watch.seen


def stages_end(out: Path) -> Path:
    return out / "autoencoder" / "weights.safetensors"


# ---------------------------------------------------------------- trainer


FLAGS: dict[str, Callable[[Watch, Path], bool]] = {
    "trainer.num_sanity_val_steps=1": lambda seen, _: seen.sanity_checks == 1,
    "trainer.log_every_n_steps=4": lambda _, stage: list(logged(stage, "train/loss")) == [3],
    "trainer.val_check_interval=1": lambda _, stage: list(logged(stage, METRIC)) == [1, 2, 3, 4],
    "trainer.enable_checkpointing=false": lambda seen, stage: (
        "KeepLast" not in seen.callbacks and not (stage / LAST).exists()
    ),
    "trainer.enable_model_summary=true": lambda seen, _: "RichModelSummary" in seen.callbacks,
    "trainer.enable_progress_bar=true": lambda seen, _: seen.trainer.progress_bar_callback is not None,
    "trainer.limit_train_batches=1": lambda seen, _: seen.epochs == STEPS,
    "trainer.max_epochs=7": lambda seen, _: seen.trainer.max_epochs == 7,
    "trainer.deterministic=true": lambda seen, _: torch.are_deterministic_algorithms_enabled(),
    "trainer.default_root_dir=elsewhere": lambda seen, _: seen.trainer.default_root_dir.endswith("elsewhere"),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_of_the_trainer_counts(flag: str, tmp_path: Path) -> None:
    try:
        assert FLAGS[flag](run(tmp_path, flag), tmp_path / "autoencoder")
    finally:
        torch.use_deterministic_algorithms(False)
    assert stages_end(tmp_path).is_file()


def test_no_validation(tmp_path: Path) -> None:
    run(tmp_path, "trainer.limit_val_batches=0")
    with pytest.raises(LogError, match="never logged"):
        logged(tmp_path / "autoencoder", METRIC)


REFUSED = {
    "trainer.accumulate_grad_batches=2": "stages.NAME.accumulate",
    "trainer.gradient_clip_val=1": "stages.NAME.gradient_clip_val",
    "trainer.max_steps=5": "stages.NAME.steps",
    "trainer.max_time=00:01:00:00": "stages.NAME.minutes",
    "trainer.fast_dev_run=true": "stages.NAME.steps=1",
    "trainer.callbacks=[{_target_: x}]": "+callbacks.NAME._target_",
    "trainer.logger=true": "logger=null",
    "trainer.strategy=deepspeed": "auto, ddp, fsdp",
    "trainer.val_check_interval=0.5": "val_check_interval",
    "+trainer.no_such=1": "lightning.Trainer has no such argument",
    "+callbacks.x.patience=1": "callbacks.x names no class",
    "+callbacks.last.hours=1": "KeepLast has no such argument",
    "+callbacks.x._target_=no.such.Class": "no.such.Class",
    "~logger.csv": "objective=val/lpips/q0 is read from CSV",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_count_is_refused_by_name(override: str, tmp_path: Path) -> None:
    more = ["objective=val/lpips/q0"] if override == "~logger.csv" else []
    with pytest.raises(TrainingError) as refused:
        run(tmp_path, override, *more)
    option = override.lstrip("+~").partition("=")[0]
    assert option.split(".")[1] in str(refused.value)
    assert REFUSED[override] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_lightnings_own_values_are_no_request(tmp_path: Path) -> None:
    run(tmp_path, "trainer.accumulate_grad_batches=1", "trainer.max_steps=-1", "trainer.overfit_batches=0.0", steps=1)


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        (["trainer=cpu", "trainer.devices=2"], GradientAveraging),
        (["trainer=cpu", "trainer.devices=2", "trainer.strategy=fsdp"], Sharding),
        (["trainer=cpu", "trainer.strategy=ddp"], GradientAveraging),
        (["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"], GradientAveraging),
        (["trainer=cpu", "trainer.num_nodes=2"], GradientAveraging),
        (["trainer=cpu"], lightning.pytorch.strategies.SingleDeviceStrategy),
    ],
)
def test_several_processes_get_a_strategy_that_bears_two_backward_passes(overrides: list[str], kind: type) -> None:
    config = composed([*overrides, "trainer.precision=32-true"])
    assert type(make_trainer(config.trainer, {}, [], []).strategy) is kind


# ---------------------------------------------------------------- callbacks


def test_callbacks_come_and_go(tmp_path: Path) -> None:
    seen = run(tmp_path, "~callbacks.last", "callbacks=[default,learning_rate]", steps=1)
    assert "KeepLast" not in seen.callbacks
    assert "LearningRateMonitor" in seen.callbacks
    assert "lr-AdamW" in logged_columns(tmp_path / "autoencoder")
    assert not (tmp_path / "autoencoder" / LAST).exists()
    assert OmegaConf.select(composed([]), "callbacks.progress._target_").endswith("StageProgressBar")


def logged_columns(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("csv/*/metrics.csv"))


def test_no_callbacks_and_no_loggers(tmp_path: Path) -> None:
    train([*curve_overrides(tmp_path, 1), "run=[autoencoder]", "~callbacks", "~logger"])
    assert stages_end(tmp_path).is_file()
    assert not (tmp_path / "autoencoder" / "csv").exists()


def test_the_best_checkpoint_is_that_of_the_best_figure(tmp_path: Path) -> None:
    monitor = [f"callbacks.best.monitor={METRIC}", "callbacks.best.mode=max", "trainer.val_check_interval=1"]
    run(tmp_path, "callbacks=[default,best]", *monitor)
    figures = logged(tmp_path / "autoencoder", METRIC)
    best = torch.load(tmp_path / "autoencoder" / BEST, weights_only=True)
    assert best["counters"]["train_step"] == max(figures, key=lambda step: figures[step])
    assert [path.name for path in (tmp_path / "autoencoder").glob("best*")] == [BEST]
    load_codec(tmp_path / "autoencoder" / BEST)


def test_a_stage_without_the_metric_keeps_no_best_checkpoint_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, "callbacks=[default,best,early_stop]", f"callbacks.early_stop.monitor={METRIC}")
    (said,) = [record.getMessage() for record in caplog.records if "does not log" in record.getMessage()]
    assert said.startswith("KeepBest watches val/lpips/q2")
    assert METRIC in said.partition("it logs")[2]
    assert not (tmp_path / "autoencoder" / BEST).exists()
    assert stages_end(tmp_path).is_file()


def test_early_stopping_ends_a_stage_which_is_exported_and_done(tmp_path: Path) -> None:
    stop = ["callbacks=[default,early_stop]", f"callbacks.early_stop.monitor={METRIC}", "trainer.val_check_interval=1"]
    never = "+callbacks.early_stop.min_delta=1000"
    run(tmp_path, *stop, never, "callbacks.early_stop.patience=1", steps=50)
    assert list(logged(tmp_path / "autoencoder", METRIC)) == [1, 2]
    made = stages_end(tmp_path).stat().st_mtime_ns
    run_again = Watch.seen
    run(tmp_path, *stop, never, steps=50)
    assert Watch.seen is run_again, "the stage was trained on"
    assert stages_end(tmp_path).stat().st_mtime_ns == made


# ---------------------------------------------------------------- data


def test_finite_data_of_a_user_start_again(tmp_path: Path) -> None:
    config = composed([*curve_overrides(tmp_path, 8), "run=[autoencoder]", f"+callbacks.mine._target_={HERE}.Watch"])
    config.data = {"_target_": f"{HERE}.FewCrops"}
    run_recipe(config)
    assert Watch.seen.epochs == 3  # of three batches each
    assert len(logged(tmp_path / "autoencoder", "train/loss")) == 8
    assert Watch.seen.trainer.datamodule.batch_size == 4, "it takes the stage's"


def test_validation_at_the_end_of_epochs(tmp_path: Path) -> None:
    config = composed([*curve_overrides(tmp_path, 6), "run=[autoencoder]", "trainer.check_val_every_n_epoch=1"])
    config.data = {"_target_": f"{HERE}.FewCrops", "batch_size": 2, "batches": 2}
    run_recipe(config)
    assert list(logged(tmp_path / "autoencoder", METRIC)) == [2, 4, 6]
    assert json.loads((tmp_path / "autoencoder/summary.json").read_text())["steps"] == 6


def test_data_without_a_batch(tmp_path: Path) -> None:
    config = composed([*curve_overrides(tmp_path, 1), "run=[autoencoder]"])
    config.data = {"_target_": f"{HERE}.NoCrops"}
    with pytest.raises(TrainingError, match="gave no batch"):
        run_recipe(config)


@pytest.mark.parametrize(
    "ended", [["trainer.max_epochs=1", "trainer.limit_train_batches=2"], ["+callbacks.mine.stop_after=2"]]
)
def test_a_stage_is_exported_when_its_steps_are_done_and_goes_on_till_then(ended: list[str], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"autoencoder was ended after 2 of its 4 steps"):
        run(tmp_path, *ended)
    assert not stages_end(tmp_path).exists()
    run(tmp_path)
    assert list(logged(tmp_path / "autoencoder", "train/loss")) == [0, 1, 2, 3]
    assert stages_end(tmp_path).is_file()


# ---------------------------------------------------------------- seed, compile


def test_one_seed_for_all(tmp_path: Path) -> None:
    first = run(tmp_path / "a", steps=1).weights
    assert torch.equal(first, run(tmp_path / "b", "seed=0", steps=1).weights)
    other = run(tmp_path / "c", "seed=1", steps=1)
    assert not torch.equal(first, other.weights)
    assert other.trainer.datamodule.seed == 1000
    assert other.trainer.lightning_module.settings.seed == 1000


def test_the_training_step_is_compiled(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", steps=1)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run(tmp_path / "compiled", "compile={backend:eager}", steps=1)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert isinstance(plain.trainer.lightning_module, Stage)
    ours, theirs = (logged(tmp_path / name / "autoencoder", "train/loss") for name in ("plain", "compiled"))
    assert theirs == pytest.approx(ours, rel=1e-4)


class WithoutBlocks(nn.Module):
    """A network of a user: another one that hides what it is made of."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x)


@pytest.mark.parametrize("adversary", [False, True])
def test_networks_without_blocks_are_compiled_whole_but_not_where_an_adversary_differentiates(adversary: bool) -> None:
    stage = image_stage("autoencoder", **({} if adversary else {"adversary": None}))
    model = stage.codec.autoencoder
    model.encoder, model.decoder = WithoutBlocks(model.encoder), WithoutBlocks(model.decoder)
    compiled = compile_blocks(stage, {"backend": "eager"})
    assert model.encoder in compiled
    assert (model.decoder in compiled) == (not adversary)
