"""Stages of tiny codecs, built without configuration files, and a Trainer that trains them in a second."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from glc_train.autoencoder import VQVAE
from glc_train.codecs import ImageCodec, VideoCodec
from glc_train.losses import Adversary, CodePredictor, RateWeights
from glc_train.training import (
    AutoencoderStage,
    ClipSettings,
    CodebookSettings,
    JointStage,
    PictureLoss,
    Stage,
    StageSettings,
    TransformStage,
    VideoPixelStage,
    VideoStage,
)
from glc_train.transform import ImageTransform, VideoTransform
from tests.moving_clips import moving_clip

AUTOENCODER: dict[str, Any] = {
    "widths": [16, 16, 16], "latent_channels": 16, "codes": 32, "res_blocks": 1, "patch": 4, "groups": None,
}  # fmt: skip
LEVELS = 6


def image_codec() -> ImageCodec:
    torch.manual_seed(0)
    return ImageCodec(VQVAE(**AUTOENCODER), ImageTransform(16, 8, 8, 16, LEVELS, depth=1, context_depth=1))


def codec(own: bool = False) -> VideoCodec:
    image = image_codec()
    transform = VideoTransform(
        latent_channels=16, channels=8, token_channels=8, tokens=4, heads=2, codes=16, quality_levels=LEVELS, depth=1,
        refine_depth=1, context_depth=2, condition_channels=4,
    )  # fmt: skip
    return VideoCodec(image, transform, VQVAE(**AUTOENCODER) if own else None)


def predictor() -> CodePredictor:
    return CodePredictor(16, 32, width=16, heads=2, mlp=16, layers=1, grid=4)


def stage(
    own: bool = False,
    pixels: bool = False,
    adversary: bool = False,
    train_encoder: bool = True,
    train_transform: bool = True,
    **clip: Any,
) -> VideoStage:
    """A stage of clips, prepared, with a codebook that has its entries; `clip`: of `ClipSettings`."""
    model = codec(own)
    torch.manual_seed(1)
    options: dict[str, Any] = {
        "codec": model,
        "codec_config": {},
        "settings": StageSettings(steps=10),
        "rate": RateWeights(LEVELS),
        "codebook": CodebookSettings(),
        "predictor": predictor(),
        "adversary": Adversary(channels=8, layers=2) if adversary else None,
        "clip": ClipSettings(**clip),
    }
    if pixels:
        options |= {"picture": PictureLoss(lpips=0.0), "pixel_predictor": predictor(), "pixel_code_prediction": 0.1}
        options |= {"train_encoder": train_encoder, "train_transform": train_transform}
    made = (VideoPixelStage if pixels else VideoStage)(**options)
    made.prepare()
    made.fresh = False
    return made


def clips(frames: int) -> Tensor:
    return torch.stack([moving_clip(frames, 64, number) for number in range(2)])


IMAGE_STAGES: Mapping[str, type[Stage]] = {
    "autoencoder": AutoencoderStage, "transform": TransformStage, "joint": JointStage,
}  # fmt: skip


def image_stage(name: str, settings: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """A stage of pictures, fresh and not prepared; `options`: of its class, beside or in place of those here."""
    model = image_codec()
    torch.manual_seed(1)
    given: dict[str, Any] = {"codebook": CodebookSettings(window=3, reservoir=64)}
    if name != "transform":
        given |= {"picture": PictureLoss(lpips=0.0), "adversary": Adversary(channels=8, layers=2)}
    if name != "autoencoder":
        given |= {"rate": RateWeights(LEVELS, target_bpp=(0.01, 0.1)), "predictor": predictor()}
    if name == "joint":
        given |= {"pixel_predictor": predictor(), "pixel_code_prediction": 0.1}
    given |= {"settings": StageSettings(**{"steps": 4} | dict(settings or {}))}
    return IMAGE_STAGES[name](codec=model, codec_config={}, **(given | options))


def pictures(count: int) -> Tensor:
    """Smooth pictures (count, 3, 64, 64) in [-1, 1]."""
    return torch.cat([moving_clip(1, 64, number) for number in range(count)])


def fit(
    stage: Stage, batches: Sequence[Tensor], validation: Sequence[Tensor] = (), checkpoint: Any = None, **trainer: Any
) -> lightning.Trainer:
    """Trains `stage` on these batches once, on the CPU."""
    quiet: dict[str, Any] = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    given = quiet | {"logger": False, "accelerator": "cpu", "max_epochs": 1, "num_sanity_val_steps": 0} | trainer
    made = lightning.Trainer(**given)
    loaders: list[Any] = [DataLoader(list(each), batch_size=None) for each in (batches, validation)]  # type: ignore[arg-type]
    made.fit(stage, loaders[0], loaders[1] if len(validation) else None, ckpt_path=checkpoint, weights_only=True)
    return made
