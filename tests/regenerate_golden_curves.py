"""Writes tests/expected/golden_curves.json anew: `make golden`, after a change that is meant to alter training."""

import json
import tempfile
from pathlib import Path

import torch

from tests.training_harness import STAGES, curve_overrides, logged, train

EXPECTED = Path(__file__).parent / "expected" / "golden_curves.json"
STEPS = 10
COLUMNS = {
    "autoencoder": (
        "train/loss",
        "train/loss/l1",
        "train/loss/vq",
        "train/adaptive_weight",
        "train/loss/discriminator",
    ),
    "transform": ("train/loss", "train/bpp_y", "train/loss/latent_mse", "train/loss/code_prediction"),
    "joint": (
        "train/loss",
        "train/bpp_y",
        "train/loss/l1",
        "train/adaptive_weight",
        "train/loss/pixel_code_prediction",
    ),
}


def curves(out: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Ten CPU steps of each stage of the tiny model: stage → column → step → value."""
    torch.set_num_threads(1)
    train(curve_overrides(out, STEPS))
    return {stage: {column: logged(out / stage, column) for column in COLUMNS[stage]} for stage in STAGES}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        EXPECTED.write_text(json.dumps(curves(Path(folder)), indent=1) + "\n")
    print(f"wrote {EXPECTED}")
