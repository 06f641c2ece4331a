"""The profile of a training step, and the card beside the export."""

import re
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from glc_train.training.profiler import PhaseClock
from tests.training_harness import composed, curve_overrides, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profiled") / "out"
    train([*curve_overrides(out, 7), "run=[autoencoder]", "profile=2"])
    return out / "autoencoder"


def _shares(report: str) -> dict[str, float]:
    phases = report.split("operator,")[0].splitlines()[3:]
    return {line[:16].strip(): float(line.split()[-1].rstrip("%")) for line in phases if line.strip()}


def test_every_phase_has_its_share(folder: Path) -> None:
    shares = _shares((folder / "profile.txt").read_text())
    assert list(shares) == [
        "data", "encoder", "quantiser", "decoder", "losses", "backward", "discriminator", "optimiser", "codebook",
        "EMA", "other",
    ]  # fmt: skip
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert shares["backward"] > shares["quantiser"] > 0


def test_operators_are_counted_per_batch(folder: Path) -> None:
    report = (folder / "profile.txt").read_text()
    convolution = re.search(r"^aten::(?:mkldnn|convolution)\S* +([\d.]+) ", report, flags=re.MULTILINE)
    assert convolution is not None, report
    assert 10 < float(convolution.group(1)) < 1000
    assert "encoder" not in report.split("operator,")[1], "phases are no operators"


def test_a_short_stage_says_that_nothing_was_profiled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train([*curve_overrides(tmp_path, 1), "run=[autoencoder]", "profile=true"])
    assert not (tmp_path / "autoencoder" / "profile.txt").exists()
    assert "nothing was profiled" in caplog.text


def test_the_clock_gives_inner_phases_their_own_time() -> None:
    clock = PhaseClock(torch.device("cpu"))
    with clock.phase("before"):
        time.sleep(0.01)
    clock.running = True
    with clock.phase("outer"):
        time.sleep(0.02)
        with clock.phase("inner"):
            time.sleep(0.06)
    assert set(clock.seconds) == {"outer", "inner"}
    assert clock.seconds["inner"] > clock.seconds["outer"] > 0.015


def test_the_card_says_how_the_weights_came_about(folder: Path) -> None:
    for place in (folder, folder.parent):  # beside the stage's export and beside the published one
        card = (place / "model_card.md").read_text()
        for words in ("AutoencoderStage", "| training steps | 7 ", "| crops seen | 28 of 64×64", "RenderedCrops",
                      torch.__version__, "| val/psnr/stage_I |", "cores"):  # fmt: skip
            assert words in card, words
        config = OmegaConf.load(place / "config.yaml")
        assert config.stages.autoencoder.module.settings.steps == 7
        assert set(config) == set(composed([]))
    assert not list(folder.parent.rglob("*.tmp"))
