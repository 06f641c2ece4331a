"""Every experiment composes, says what it is, and trains one step of each of its stages."""

from pathlib import Path

import pytest

from tests.training_harness import ROOT, composed, tiny_overrides, train

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_one_tiny_step(path: Path, tmp_path: Path) -> None:
    overrides = [
        f"experiment={path.stem}", *tiny_overrides(tmp_path / "out", 1),
        "stages.autoencoder.module.picture.lpips=0", "stages.joint.module.picture.lpips=0",
    ]  # fmt: skip
    if composed(overrides).stages.joint.module.pixel_predictor is not None:
        overrides.append("~stages.joint.module.pixel_predictor")
    assert train(overrides).is_file()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_first_lines_say_how_to_run_it(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith(f"# python train.py experiment={path.stem}")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("trainer", ["cpu", "gpu", "ddp"])
@pytest.mark.parametrize("logger", ["local", "wandb"])
def test_groups_compose(model: str, trainer: str, logger: str) -> None:
    config = composed([f"model={model}", f"trainer={trainer}", f"logger={logger}"])
    assert config.model.autoencoder.latent_channels == config.model.transform.latent_channels
