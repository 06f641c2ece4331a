"""`trainer.precision`: "auto" becomes what the device computes natively, what Lightning knows stays."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from glc_train import precision
from glc_train.training import TrainingError, run_recipe
from glc_train.training.trainer_precision import trainer_precision
from tests.training_harness import ROOT, composed, curve_overrides, train


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "trainer").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_trainer_lets_the_device_decide(path: Path) -> None:
    assert composed([f"trainer={path.stem}"]).trainer.precision == "auto"


@pytest.mark.parametrize(
    ("accelerator", "asked", "native", "expected", "warns"),
    [
        ("cpu", "auto", True, "bf16-mixed", False),
        ("cpu", "auto", False, "32-true", False),
        ("cpu", "bf16-mixed", False, "bf16-mixed", True),
        ("cpu", "bf16-mixed", True, "bf16-mixed", False),
        ("cpu", "16-mixed", False, "16-mixed", True),  # Lightning takes bf16-mixed instead
        ("cpu", "32-true", False, "32-true", False),
        ("cpu", 32, False, 32, False),
        ("cpu", None, False, None, False),
        ("gpu", "auto", True, "bf16-mixed", False),
        ("gpu", "auto", False, "32-true", False),
        ("auto", "bf16-mixed", False, "bf16-mixed", True),
        ("gpu", "16-mixed", False, "16-mixed", True),
    ],
)
def test_auto_is_resolved_and_all_else_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    accelerator: str, asked: Any, native: bool, expected: Any, warns: bool,
) -> None:  # fmt: skip
    devices = []

    def choose(device: str) -> precision.Precision:
        devices.append(device)
        return precision.Precision(torch.bfloat16 if native else torch.float32, "because")

    monkeypatch.setattr(precision, "choose", choose)
    monkeypatch.setattr(precision, "slowdown", lambda device: 9.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with caplog.at_level(logging.INFO):
        assert trainer_precision(OmegaConf.create({"accelerator": accelerator, "precision": asked})) == expected
    assert set(devices) <= {"cpu" if accelerator == "cpu" else "cuda"}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warns + ["INFO"] * (asked == "auto")


@pytest.mark.parametrize("asked", ["16-true", "bf16-true", "64-true", "transformer-engine", "float16"])
def test_a_precision_that_stages_cannot_train_in_is_refused_by_name(asked: str, tmp_path: Path) -> None:
    overrides = [o for o in curve_overrides(tmp_path, 1) if not o.startswith("trainer.precision")]
    with pytest.raises(TrainingError, match=f"trainer.precision={asked}: .* give auto, 32-true"):
        run_recipe(composed([*overrides, f"trainer.precision={asked}"]))


def test_a_run_says_once_what_it_computes_in_and_its_card_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    overrides = [o for o in curve_overrides(tmp_path / "out", 2) if not o.startswith("trainer.precision")]
    with caplog.at_level(logging.INFO):
        weights = train([*overrides, "run=[autoencoder,transform]"])
    choice = precision.choose("cpu")
    said = [r.message for r in caplog.records if r.name == precision.__name__]
    assert said == [f"computing in {precision.name_of(choice.dtype)}: {choice.reason}"]
    lightnings = "bf16-mixed" if choice.dtype == torch.bfloat16 else "32-true"
    assert f"| precision | {lightnings} |" in (weights.parent / "model_card.md").read_text()
