"""Writes tests/expected/golden_curves.json anew: `make golden`, after a change that is meant to alter training."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from tests.training_harness import (
    STAGES,
    VIDEO_STAGES,
    curve_overrides,
    logged,
    tiny_image,
    train,
    train_video,
    video_curve_overrides,
)

EXPECTED = Path(__file__).parent / "expected" / "golden_curves.json"
STEPS = 10
_LATENT = ("train/loss", "train/bpp_y", "train/loss/latent_mse", "train/loss/code_prediction")
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
    **dict.fromkeys(("two_frames", "three_frames", "six_frames", "cascade"), _LATENT),
    "pixels": (*_LATENT, "train/loss/l1", "train/adaptive_weight", "train/loss/pixel_code_prediction"),
}


def curves(out: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Ten CPU steps of each stage of the tiny image model: stage → column → step → value."""
    torch.set_num_threads(1)
    train(curve_overrides(out, STEPS))
    return _logged(out, STAGES)


def video_curves(out: Path) -> dict[str, dict[str, dict[int, float]]]:
    """The same of the tiny video model, over an untrained image codec."""
    torch.set_num_threads(1)
    train_video(video_curve_overrides(out, STEPS, tiny_image(out / "image.safetensors")))
    return _logged(out, VIDEO_STAGES)


def _logged(out: Path, stages: Iterable[str]) -> dict[str, dict[str, dict[int, float]]]:
    return {stage: {column: logged(out / stage, column) for column in COLUMNS[stage]} for stage in stages}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measured = curves(Path(folder) / "image") | video_curves(Path(folder) / "video")
        EXPECTED.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"wrote {EXPECTED}")
