"""Runs the stages of a recipe in order, each from the weights of the one before."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from glc_train.codecs import ImageCodec
from glc_train.losses import CodePredictor
from glc_train.training.checkpoint import KeepLast
from glc_train.training.prior import fit_z_prior
from glc_train.training.progress_bar import StageProgressBar
from glc_train.training.stage import Stage, TrainingError
from glc_train.training.validation import Validate
from glc_train.weights import build_codec, load_codec, load_strictly, save_codec

log = logging.getLogger(__name__)
STAGES = ("autoencoder", "transform", "joint")
EXPORT = "weights.safetensors"


def _make(config: Any, **arguments: Any) -> Any:
    """Instantiates a configuration; what its constructor refuses comes out as one sentence."""
    try:
        return instantiate(config, _partial_=True)(**arguments)
    except InstantiationException as error:
        raise TrainingError(str(error.__cause__ or error).splitlines()[0]) from error


def run_recipe(config: DictConfig) -> Path:
    """Trains the stages named in `config.run`; finished ones are skipped, an interrupted one goes on.

    Returns:
        The exported weights of the last stage, also copied to `config.out`.

    Raises:
        TrainingError, ValueError, OSError: bad input, before the first step, in one sentence.
    """
    out = Path(config.out)
    _check_order(config, out)
    weights = None if config.init_from is None else Path(config.init_from)
    for name in STAGES:
        folder = out / name
        if name in config.run and not (folder / EXPORT).is_file():
            train_stage(config, name, folder, weights)
        elif name in config.run:
            log.info("stage %s is done: %s", name, folder / EXPORT)
        if (folder / EXPORT).is_file():
            weights = folder / EXPORT
    assert weights is not None
    _publish(weights, out / EXPORT)
    return out / EXPORT


@rank_zero_only
def _publish(weights: Path, final: Path) -> None:
    temporary = final.with_suffix(".tmp")
    shutil.copyfile(weights, temporary)
    os.replace(temporary, final)
    log.info("weights: %s", final)


def _check_order(config: DictConfig, out: Path) -> None:
    unknown = [name for name in config.run if name not in STAGES]
    if unknown or not config.run:
        raise TrainingError(f"run={list(config.run)}: choose stages among {', '.join(STAGES)}")
    first = min(STAGES.index(name) for name in config.run)
    if first and config.init_from is None and not any((out / s / EXPORT).is_file() for s in STAGES[:first]):
        raise TrainingError(
            f"stage {STAGES[first]} starts from trained weights: run stage {STAGES[first - 1]} first, "
            "or give init_from=FILE"
        )


def train_stage(config: DictConfig, name: str, folder: Path, weights: Path | None) -> None:
    """Trains one stage in `folder` and exports its averaged weights there.

    Args:
        config: the composed configuration.
        name: of the stage.
        folder: for checkpoints, logs, panels and the export.
        weights: to start from; None for fresh ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stage_config = config.stages[name]
    lightning.seed_everything(stage_config.module.settings.seed, workers=True, verbose=False)
    model_config = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True))
    codec = build_codec(model_config)
    if weights is not None:
        load_strictly(codec, load_codec(weights).state_dict(), str(weights))
    if config.channels_last:
        codec.to(memory_format=torch.channels_last)
    stage: Stage = _make(stage_config.module, codec=codec, codec_config=model_config)
    stage.prepare()
    data = _make(
        config.data,
        crop_size=stage_config.crop_size,
        batch_size=stage_config.batch_size,
        seed=stage_config.module.settings.seed,
    )
    keep = KeepLast(folder, **config.checkpoint)
    callbacks = [keep, Validate(folder / "panels", name != "autoencoder")]
    if config.progress:
        callbacks.append(StageProgressBar(refresh_rate=config.log_every))
    batches = stage.settings.steps * stage.settings.accumulate
    trainer = _make(
        config.trainer,
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=[_make(logger, save_dir=str(folder)) for logger in config.logger.values()],
        max_epochs=1,
        limit_train_batches=batches,
        val_check_interval=min(stage_config.val_every * stage.settings.accumulate, batches),
        log_every_n_steps=config.log_every,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=config.progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    checkpoint = folder / "last.ckpt"
    resume = str(checkpoint) if checkpoint.is_file() else None
    log.info("stage %s: %s", name, f"goes on from {checkpoint}" if resume else "starts")
    trainer.fit(stage, datamodule=data, ckpt_path=resume, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    keep.save(trainer)
    if trainer.is_global_zero:
        _export(stage, model_config, folder, data if name != "autoencoder" else None, config)
    trainer.strategy.barrier()  # the next stage reads what rank 0 exports


def _export(stage: Stage, model_config: dict[str, Any], folder: Path, data: Any, config: DictConfig) -> None:
    codec: ImageCodec = stage.averaged
    if data is not None and config.prior_batches:
        fit_z_prior(codec, data, config.prior_batches)
    save_codec(codec, model_config, folder / EXPORT)
    for name in ("predictor", "pixel_predictor"):
        predictor = getattr(stage, name, None)
        if isinstance(predictor, CodePredictor):
            torch.save(predictor.state_dict(), folder / f"{name}.pt")
    facts = {
        "stage": type(stage).__name__,
        "steps": int(stage.train_step),
        "minutes": round(float(stage.seconds) / 60, 2),
    }
    facts["skipped_steps"] = int(stage.bad_steps)
    (folder / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    log.info("stage exported to %s: %s", folder / EXPORT, facts)
