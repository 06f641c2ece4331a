"""The benchmark of training steps runs, and its plain formulation computes the same."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import step as benchmark
from benchmarks.plain import PlainQuantiser, with_plain_quantisers
from glc_train.layers import VectorQuantiser
from tests.training_harness import STAGES

pytestmark = pytest.mark.slow

TINY = [
    "--model", "tiny", "--rounds", "2", "--steps", "1", "--threads", "1", "--peak-tflops", "2", "--set",
    *(f"stages.{s}.{key}" for s in STAGES for key in ("crop_size=64", "batch_size=2")),
    *(f"stages.{s}.predictor={{width: 32, heads: 4, mlp: 32, layers: 1, grid: 4}}" for s in STAGES[1:]),
    *(f"++stages.{s}.adversary.{key}" for s in ("autoencoder", "joint") for key in ("channels=8", "layers=2")),
    "stages.autoencoder.picture.lpips=0", "stages.joint.picture.lpips=0",
    "stages.joint.picture.vgg=0", "stages.joint.picture.style=0",
    # Muon's orthogonal updates make much of rounding errors in small directions.
    *(f"++stages.{s}.muon_lr=null" for s in STAGES),
]  # fmt: skip


def test_one_case_is_measured_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, profile = tmp_path / "step.json", tmp_path / "profile.txt"
    benchmark.main(["--out", str(out), "--profile", str(profile), "--cases", "autoencoder+gan", *TINY])
    record = json.loads(out.read_text())
    assert {"command", "commit", "date", "hardware", "load_at_start", "options", "results"} <= set(record)
    figures = record["results"]["autoencoder+gan"]
    assert figures["ratio"]["min"] <= figures["ratio"]["median"] <= figures["ratio"]["max"]
    assert figures["teraflop_per_step"] > 1e-4
    for name in ("ours", "plain"):
        speed = figures[name]
        assert speed["crops_per_second"] == pytest.approx(2 / speed["seconds"]["median"])
        assert speed["share_of_peak"] == pytest.approx(speed["teraflop_per_second"] / 2)
    assert "faster than plain" in capsys.readouterr().out
    assert figures["a_step"]["operators"] > 1000
    assert "aten::convolution" in profile.read_text()


def test_the_case_of_a_recipe_has_its_discriminator_from_the_first_step() -> None:
    options = benchmark.parse(["--experiment", "glc_image_small_gpu"])
    adversary = benchmark.configuration("joint+recipe", options).stages.joint.adversary
    assert adversary.discriminator._target_ == "glc_train.losses.ProjectedDiscriminator"
    assert (adversary.start, adversary.warmup, adversary.margin) == (0, 0, 16)


@pytest.mark.parametrize(
    ("case", "weight"),
    [("autoencoder+gan", "sample"), ("autoencoder+gan", "batch"), ("transform", "batch"), ("joint+gan", "sample")],
)
def test_plain_and_ours_take_the_same_step(case: str, weight: str) -> None:
    options = benchmark.parse(["--gan-weight", weight, *TINY])
    config = benchmark.configuration(case, options)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ours, plain = benchmark.build(config, case, plain=False), benchmark.build(config, case, plain=True)
    for stage in (ours, plain):
        stage.train_step += 1  # the first step would draw the codebook from the batch
        benchmark.run_block(stage, x, 1, "32-true", "cpu")
    changed = 0
    for (name, one), other in zip(ours.codec.named_parameters(), plain.codec.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=5e-5, msg=name)
        changed += int(one.requires_grad)
    assert changed


def test_plain_quantisers_give_the_same_codes() -> None:
    module = torch.nn.Sequential(VectorQuantiser(64, 8))
    x = torch.randn(2, 8, 5, 7)
    expected = module(x)
    with_plain_quantisers(module)
    assert isinstance(module[0], PlainQuantiser)
    found = module(x)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.vectors, expected.vectors)


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--cases", "all"]])
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse(arguments)
