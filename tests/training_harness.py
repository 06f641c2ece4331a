"""Short training runs for the tests: tiny model, rendered crops, no LPIPS, everything seeded."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks.measures import model_config
from glc_train.training import read_curve, run_recipe
from glc_train.weights import build_codec, save_codec

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("autoencoder", "transform", "joint")
VIDEO_STAGES = {"two_frames": 2, "three_frames": 3, "six_frames": 3, "cascade": 4, "pixels": 3}  # frames in the tests
QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
_SMALL_PREDICTOR = "{width: 32, heads: 4, mlp: 32, layers: 1, grid: 4}"


def tiny_overrides(out: Path, steps: int, stages: Sequence[str] = STAGES) -> list[str]:
    """Overrides that make any experiment with these stages a run of seconds in `out`, in float32, without downloads."""
    overrides = [
        "model=tiny", "data=rendered", "trainer=cpu", "trainer.precision=32-true", f"out={out}", *QUIET,
        "trainer.log_every_n_steps=1", "prior_batches=1", "data.val_pictures=1", "data.val_max_side=64",
    ]  # fmt: skip
    for stage in stages:
        overrides += _tiny_stage(stage, steps)
        if not stage.startswith("autoencoder"):
            overrides.append(f"++stages.{stage}.predictor={_SMALL_PREDICTOR}")
    return overrides


def _tiny_stage(stage: str, steps: int) -> list[str]:
    return [
        f"stages.{stage}.crop_size=64",
        f"stages.{stage}.batch_size=4",
        f"stages.{stage}.steps={steps}",
        f"stages.{stage}.minutes=null",
    ]


def tiny_stages(config: DictConfig) -> list[str]:
    """Overrides that make the stages of an image recipe one small step each.

    Code predictors that it leaves out stay out, and so does what needs the weights of other networks.
    """
    overrides = []
    for name, section in config.stages.items():
        overrides += _tiny_stage(name, 1)
        if section.get("predictor") is not None:
            overrides.append(f"++stages.{name}.predictor={_SMALL_PREDICTOR}")
        if section.get("pixel_predictor") is not None:
            overrides.append(f"~stages.{name}.pixel_predictor")
        for part in ("picture", "adversary"):  # the crops are small
            if section.get(part) is not None:
                overrides.append(f"stages.{name}.{part}.margin=0")
        if (section.get("adversary") or {}).get("discriminator") is not None:
            overrides.append(f"stages.{name}.adversary.discriminator=null")  # it needs the weights of VGG16
        if "picture" in section:
            overrides += [f"stages.{name}.picture.{loss}=0" for loss in ("lpips", "vgg", "style")]
    return overrides


def curve_overrides(out: Path, steps: int) -> list[str]:
    """As `tiny_overrides`, every part of the three stages in use but LPIPS, whose backbone may not be at hand."""
    adversary = "{_target_: glc_train.losses.Adversary, channels: 8, layers: 2, start: 4, warmup: 2, lr: 1e-4}"
    return [
        *tiny_overrides(out, steps),
        "stages.autoencoder.picture.lpips=0",
        "stages.joint.picture.lpips=0",
        f"++stages.autoencoder.adversary={adversary}",
        f"++stages.joint.adversary={adversary}",
        "stages.autoencoder.codebook.window=4",
        "stages.transform.codebook.window=4",
        "stages.transform.rate.target_bpp=[0.05,0.2]",
        f"++stages.joint.pixel_predictor={_SMALL_PREDICTOR}",
    ]


def tiny_image(path: Path) -> Path:
    """Writes the weights of an untrained tiny image codec, for video codecs to start from."""
    config = model_config()
    torch.manual_seed(0)
    save_codec(build_codec(config), config, path)
    return path


def tiny_video_overrides(out: Path, steps: int) -> list[str]:
    """Overrides that make any video experiment a run of seconds in `out`; `image=` or `init_from=` has to be added."""
    overrides = [
        "recipe=video", "model=tiny", "model/video@video.transform=tiny", "trainer=cpu", "trainer.precision=32-true",
        f"out={out}", *QUIET, "trainer.log_every_n_steps=1", "prior_batches=1",
        *(f"stages.pixels.picture.{loss}=0" for loss in ("lpips", "vgg", "style")),
    ]  # fmt: skip
    for stage, frames in VIDEO_STAGES.items():
        overrides += [
            f"stages.{stage}.frames={frames}",
            f"stages.{stage}.crop_size=64",
            f"stages.{stage}.batch_size=2",
            f"stages.{stage}.steps={steps}",
            f"stages.{stage}.minutes=null",
            f"stages.{stage}.clip.lead_in=0",
            f"++stages.{stage}.predictor={_SMALL_PREDICTOR}",
        ]
    return overrides


def video_curve_overrides(out: Path, steps: int, image: Path) -> list[str]:
    """As `tiny_video_overrides`, every part of the stages in use but LPIPS."""
    adversary = "{_target_: glc_train.losses.Adversary, channels: 8, layers: 2, start: 4, warmup: 2, lr: 1e-4}"
    predictor = _SMALL_PREDICTOR.replace(
        "{", "{_target_: glc_train.losses.CodePredictor, latent_channels: 32, codes: 256, "
    )
    return [
        *tiny_video_overrides(out, steps),
        f"image={image}",
        "video.own_autoencoder=true",
        "stages.two_frames.codebook.window=4",
        "stages.cascade.rate.target_bpp=[0.05,0.2]",
        f"++stages.pixels.adversary={adversary}",
        f"++stages.pixels.pixel_predictor={predictor}",
    ]


def train_video(overrides: list[str]) -> Path:
    """Runs the recipe in this process on `moving_clips`."""
    config = composed(["data=rendered", *overrides])
    config.data = {"_target_": "tests.moving_clips.MovingClips"}
    return run_recipe(config)


def composed(overrides: list[str]) -> DictConfig:
    """The configuration that `train.py` would see."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=overrides)


def train(overrides: list[str]) -> Path:
    """Runs the recipe in this process."""
    return run_recipe(composed(overrides))


def train_process(
    overrides: list[str], launcher: Sequence[str] = (), start_new_session: bool = False
) -> "subprocess.Popen[str]":
    """Starts `train.py` as a process of its own, or under a launcher such as torchrun."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, str(ROOT / "train.py"), *overrides]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=start_new_session,
    )  # fmt: skip


def logged(folder: Path, column: str) -> dict[int, float]:
    """A logged curve of a stage, step → value."""
    return read_curve(folder, column)
