"""What a run says of itself before and after its first steps."""

import logging
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
from omegaconf import OmegaConf

from glc_train.training.plan import SayPlan, duration, pictures_of
from glc_train.training.progress_bar import StageProgressBar
from glc_train.training.section import settings_of
from tests.training_harness import ROOT, composed, curve_overrides, train

LOG = "glc_train.training.plan"


def test_the_plan_comes_before_the_first_step_and_the_time_after_a_few(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG)
    train([*curve_overrides(tmp_path, 14), "run=[autoencoder]", "trainer.limit_val_batches=0"])
    lines = [record.getMessage() for record in caplog.records if record.name == LOG]
    assert lines[0].startswith("plan: ImageCodec of 1.3 M parameters; PictureDataModule; cpu, 32-true, 1 process")
    assert lines[1] == "plan: stage autoencoder, 14 steps, 4 samples of 64 pixels a side"
    assert lines[2].startswith("stage autoencoder: ")
    assert lines[2].endswith("to go without validation")
    assert len(lines) == 3, "short runs need no warning"


@pytest.mark.parametrize(
    ("overrides", "pictures", "device", "warned"),
    [
        ([], 13, "cpu", True),
        ([], 13, "cuda", True),
        ([], None, "cpu", True),
        ([], 10_000, "cuda", False),
        (["experiment=glc_image_tiny"], 13, "cpu", False),
        (["experiment=glc_image_small_cpu", "data=demo", "~data.train.scale_probability"], 13, "cpu", False),
    ],
)
def test_weeks_on_a_few_photographs_are_warned_of(
    overrides: list[str], pictures: int | None, device: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = composed(overrides or ["experiment=glc_image"])
    ahead = {str(name): settings_of(section) for name, section in config.stages.items()}
    SayPlan("autoencoder", ahead, config.stages, first=True)._warn(pictures, device)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    if warned:
        (message,) = caplog.messages
        assert message.startswith("plan: 1,200,000 steps on ")
        for mend in (
            "data=folder data.train.root=FOLDER",
            "stages.autoencoder.minutes=30",
            "experiment=glc_image_tiny",
        ):
            assert mend in message


def test_files_are_counted_through_mixtures() -> None:
    files, rendered = SimpleNamespace(paths=["a", "b"]), SimpleNamespace()
    assert pictures_of(files) == 2
    assert pictures_of(rendered) is None
    assert pictures_of(SimpleNamespace(sources=[rendered, files, files])) == 4


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 seconds"), (89, "89 seconds"), (90, "1.5 minutes"), (7200, "2 hours"), (12e6, "139 days")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_help_is_short() -> None:
    text = OmegaConf.load(ROOT / "conf/train.yaml").hydra.help.template
    assert len(text.splitlines()) < 40
    for word in ("experiment=glc_image_tiny", "stages.NAME.OPTION", "_target_=MODULE.CLASS"):
        assert word in text


@pytest.mark.parametrize(("epochs", "expected"), [(-1, "Epoch 3"), (8, "Epoch 3/7")])
def test_the_bar_shows_a_last_epoch_only_where_there_is_one(epochs: int, expected: str) -> None:
    bar = StageProgressBar()
    bar._trainer = lightning.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, accelerator="cpu")
    assert bar._get_train_description(3).rstrip() == expected
