"""Optimisers and losses of the user's own; options of optimisers that change between runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from glc_train.training import AutoencoderStage, TrainingError, WarmupCosine
from tests.tiny_stages import IMAGE_STAGES, fit, image_stage, pictures

HALVED = {"schedule": WarmupCosine(warmup=2), "steps": 4}  # the first step has half of the rate


class OwnOptimisers(AutoencoderStage):
    """SGD with a rate for each half of the auto-encoder; RMSprop for the discriminator."""

    made = 3

    def configure_optimizers(self) -> Any:
        assert self.adversary is not None
        model = self.codec.autoencoder
        return [
            torch.optim.SGD(model.encoder.parameters(), lr=0.5),
            torch.optim.SGD([{"params": model.decoder.parameters()}], lr=0.25),
            torch.optim.RMSprop(self.adversary.parameters(), lr=0.125),
        ][: self.made]


class OwnSchedule(OwnOptimisers):
    def configure_optimizers(self) -> Any:
        optimisers = super().configure_optimizers()
        return optimisers, [torch.optim.lr_scheduler.ConstantLR(optimisers[0])]


class OneOptimiser(OwnOptimisers):
    made = 1


def own(kind: type[AutoencoderStage], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(IMAGE_STAGES, "autoencoder", kind)
    return image_stage("autoencoder", HALVED)


def test_the_schedule_scales_the_rates_of_own_optimisers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = own(OwnOptimisers, monkeypatch)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    keep = ModelCheckpoint(tmp_path, filename="own", save_top_k=-1, every_n_train_steps=1)
    trainer = fit(stage, [pictures(2)], callbacks=[keep], enable_checkpointing=True)
    assert [group["lr"] for each in trainer.optimizers for group in each.param_groups] == [0.25, 0.125, 0.0625]
    after = stage.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert {"codec", "adversary"} <= changed
    resumed = own(OwnOptimisers, monkeypatch)
    trainer = fit(resumed, [pictures(2)], checkpoint=tmp_path / "own.ckpt", max_epochs=2)
    assert resumed.train_step == 2
    rates = [group["lr"] for each in trainer.optimizers for group in each.param_groups]
    assert rates == pytest.approx([rate * resumed.settings.schedule(1, 0.25) for rate in (0.5, 0.25, 0.125)])
    with pytest.raises(TrainingError, match="the optimisers of OwnOptimisers, this run trains with AdamW"):
        fit(image_stage("transform"), [pictures(2)], checkpoint=tmp_path / "own.ckpt", max_epochs=2)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(OwnSchedule, "the stage has its own, see its option `schedule`"), (OneOptimiser, "gives 1 optimiser, and the")],
)
def test_own_optimisers_that_cannot_serve_are_refused(
    kind: type[AutoencoderStage], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match=sentence):
        fit(own(kind, monkeypatch), [pictures(2)])


@pytest.mark.parametrize("muon_lr", [None, 1e-3])
def test_a_resumed_run_has_the_options_that_are_given_now(muon_lr: float | None, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="first", save_top_k=-1, every_n_train_steps=1)
    first = image_stage("transform", {"weight_decay": 0.5, "betas": (0.5, 0.6), "lr": 1e-3, "muon_lr": muon_lr})
    trainer = fit(first, [pictures(2)], callbacks=[keep], enable_checkpointing=True)
    ours = [trainer.optimizers[0].param_groups[0][name] for name in ("weight_decay", "betas")]
    assert ours == [0.5, (0.5, 0.6)]
    second = image_stage("transform", {"weight_decay": 0.25, "betas": (0.7, 0.8), "lr": 2e-3, "muon_lr": muon_lr})
    trainer = fit(second, [pictures(2)], checkpoint=tmp_path / "first.ckpt", max_epochs=2)
    group = trainer.optimizers[0].param_groups[0]
    assert [group[name] for name in ("weight_decay", "betas")] == [0.25, (0.7, 0.8)]
    assert group["lr"] == pytest.approx(2e-3 * second.settings.schedule(1, 0.25))


def distance(x_hat: Tensor, x: Tensor, draws: object) -> Tensor:
    return (x_hat - x).square().mean()


def test_a_loss_may_be_a_scalar_alone() -> None:
    for name in ("autoencoder", "joint"):
        trainer = fit(image_stage(name, picture=distance), [pictures(2)])
        assert float(trainer.callback_metrics["train/loss/picture"]) > 0


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    def of_each(x_hat: Tensor, x: Tensor, draws: object) -> Tensor:
        return (x_hat - x).square().mean((1, 2, 3))

    with pytest.raises(TrainingError, match=r"gives a loss of shape \(2,\): give a scalar"):
        fit(image_stage("autoencoder", picture=of_each), [pictures(2)])
