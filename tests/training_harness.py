"""Short training runs for the tests: tiny model, rendered crops, no LPIPS, everything seeded."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from glc_train.training import read_curve, run_recipe

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("autoencoder", "transform", "joint")
_SMALL_PREDICTOR = "{width: 32, heads: 4, mlp: 32, layers: 1, grid: 4}"


def tiny_overrides(out: Path, steps: int) -> list[str]:
    """Overrides that make any experiment a run of seconds in `out`, in float32 and without downloads."""
    overrides = [
        "model=tiny", "data=rendered", "trainer=cpu", "trainer.precision=32-true", f"out={out}", "progress=false",
        "log_every=1", "prior_batches=1", "data.val_pictures=1", "data.val_max_side=64",
    ]  # fmt: skip
    for stage in STAGES:
        overrides += [
            f"stages.{stage}.crop_size=64",
            f"stages.{stage}.batch_size=4",
            f"stages.{stage}.module.settings.steps={steps}",
            f"stages.{stage}.module.settings.minutes=null",
        ]
    for stage in ("transform", "joint"):
        overrides.append(f"++stages.{stage}.module.predictor={_SMALL_PREDICTOR}")
    return overrides


def curve_overrides(out: Path, steps: int) -> list[str]:
    """As `tiny_overrides`, every part of the three stages in use but LPIPS, whose backbone may not be at hand."""
    adversary = "{_target_: glc_train.losses.Adversary, channels: 8, layers: 2, start: 4, warmup: 2, lr: 1e-4}"
    return [
        *tiny_overrides(out, steps),
        "stages.autoencoder.module.picture.lpips=0",
        "stages.joint.module.picture.lpips=0",
        f"++stages.autoencoder.module.adversary={adversary}",
        f"++stages.joint.module.adversary={adversary}",
        "stages.autoencoder.module.codebook.window=4",
        "stages.transform.module.codebook.window=4",
        "stages.transform.module.rate.target_bpp=[0.05,0.2]",
        f"++stages.joint.module.pixel_predictor={_SMALL_PREDICTOR}",
    ]


def composed(overrides: list[str]) -> DictConfig:
    """The configuration that `train.py` would see."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=overrides)


def train(overrides: list[str]) -> Path:
    """Runs the recipe in this process."""
    return run_recipe(composed(overrides))


def train_process(overrides: list[str], launcher: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Starts `train.py` as a process of its own, or under a launcher such as torchrun."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, str(ROOT / "train.py"), *overrides]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def logged(folder: Path, column: str) -> dict[int, float]:
    """A logged curve of a stage, step → value."""
    return read_curve(folder, column)
