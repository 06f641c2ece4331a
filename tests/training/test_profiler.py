"""The profile of a training step, and the card beside the export."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.training_harness import composed, curve_overrides, train

STEPS = 11  # five of warm-up, five that are profiled, and one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profiled") / "out"
    train([*curve_overrides(out, STEPS), "run=[autoencoder]", "profiler=pytorch"])
    return out / "autoencoder"


def test_parts_of_a_step_modules_and_operators_are_timed(folder: Path) -> None:
    report = (folder / "fit-profile.txt").read_text()
    rows = (line.split() for line in report.splitlines())
    calls = {row[0]: int(row[-1]) for row in rows if row and row[-1].isdigit()}
    for part in ("losses", "backward", "optimiser", "EMA", "[pl][profile]run_training_batch"):
        assert calls[part] == 5, part
    assert any(name.endswith("networks.Decoder:") for name in calls)
    assert calls["aten::convolution_backward"] > 50


def test_the_time_line_can_be_opened(folder: Path) -> None:
    (trace,) = folder.glob("*.pt.trace.json")
    events = json.loads(trace.read_text())["traceEvents"]
    assert sum(event.get("name") == "backward" and event["ph"] == "X" for event in events) == 5


def test_the_card_says_how_the_weights_came_about(folder: Path) -> None:
    for place in (folder, folder.parent):  # beside the stage's export and beside the published one
        card = (place / "model_card.md").read_text()
        for words in ("AutoencoderStage", f"| training steps | {STEPS} ", f"| crops seen | {4 * STEPS} of 64×64",
                      "RenderedCrops", torch.__version__, "| val/psnr/stage_I |", "cores"):  # fmt: skip
            assert words in card, words
        config = OmegaConf.load(place / "config.yaml")
        assert config.stages.autoencoder.steps == STEPS
        assert set(config) == set(composed([]))
    assert not list(folder.parent.rglob("*.tmp"))
