"""Effort in an evaluation: nearer at the same bytes, told in the results, refused where it cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from torch import Tensor

from glc_train.evaluation import EvaluationError, EvaluationSettings, run_evaluation
from glc_train.media import write_picture
from tests.evaluation.sections import baselines
from tests.metrics.rendered import render
from tests.training_harness import tiny_image

OWN = f"distortion._target_={__name__}.own"


def own(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
    """A distortion that is a plain function."""
    return {"squares": (x_hat - x).square().mean()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("effort")
    write_picture(folder / "pictures" / "p.png", render(70, 130))
    tiny_image(folder / "tiny.safetensors")
    return folder


def settings(repository: Path, folder: Path, *options: str) -> EvaluationSettings:
    given = [f"ckpt={folder / 'tiny.safetensors'}", f"data.test.root={folder / 'pictures'}", f"out={folder / 'out'}"]
    quick = ["data=folder", "metrics=psnr", "progress=false", "save_pictures=false", "overwrite=true", "device=cpu"]
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        return EvaluationSettings.from_config(compose("evaluate", [*quick, *given, *options]))


def measured(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of the run, and its only means."""
    results = json.loads((folder / "out" / "results.json").read_text())
    (means,) = results["codecs"]["GLC"]["means"]
    return results, means


@pytest.mark.parametrize("rate", ["qualities=1", "rates=0.6"])
def test_effort_is_measured_at_the_same_bytes(repository: Path, folder: Path, rate: str) -> None:
    run_evaluation(settings(repository, folder, rate))
    plain, without = measured(folder)
    run_evaluation(settings(repository, folder, rate, "effort=4", OWN, "+distortion._partial_=true"))
    facts, refined = measured(folder)
    assert (plain["effort"], facts["effort"]) == (0, 4)
    assert refined["psnr"] > without["psnr"]
    assert refined["bpp"] <= (0.6 if "rates" in rate else 1.02 * without["bpp"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["effort=10"], r"^effort=10: give 0 to 9\.$"),
        (["effort=1", "distortion._target_=nowhere.Loss"], r"^distortion\._target_=nowhere\.Loss: there is no such"),
        (["effort=1", "+distortion.blur=1"], r"^distortion: .*blur"),
        (["rates=0.1", "qualities=1"], r"^rates= is of codecs that code to a number of bytes"),
    ],
)
def test_what_cannot_be_is_one_sentence(repository: Path, folder: Path, options: list[str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        run_evaluation(settings(repository, folder, *options))


def test_other_codecs_take_no_effort(repository: Path, folder: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^effort=1: webp takes none; leave it out\.$"):
        EvaluationSettings(data={}, codec=baselines("webp"), effort=1, device="cpu")
