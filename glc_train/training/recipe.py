"""Runs the stages of a recipe in order, each from the weights of the one before."""

import copy
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from filelock import FileLock, Timeout
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from glc_train.data import StreamDataModule
from glc_train.files import replacing, write_bytes, write_text
from glc_train.losses import CodePredictor
from glc_train.pickles import read_pickle
from glc_train.training.checkpoint import KeepLast, checkpoint_problem, clear_leftovers, newest_sound
from glc_train.training.compilation import compile_blocks
from glc_train.training.epochs import RefuseEmptyEpochs
from glc_train.training.family import EXPORT, Family, family_of, plain
from glc_train.training.loggers import LogConfiguration, check_groups, forget_run, make_loggers, wandb_problem
from glc_train.training.model_card import CARD, CONFIG, training_facts, write_model_card
from glc_train.training.options import check_options
from glc_train.training.prior import fit_z_prior
from glc_train.training.sharding import full_state
from glc_train.training.stage import Stage, TrainingError
from glc_train.training.trainer import check_trainer, configuration_problem, entries, fill, make, make_trainer
from glc_train.training.trainer_precision import trainer_precision
from glc_train.training.validation import Validate
from glc_train.weights import build_any, load_strictly, save_codec

log = logging.getLogger(__name__)
PREDICTOR = "predictor.pt"
SUMMARY = "summary.json"
_SEED_STEP = 1000  # from one seed of a run to the next: the stages of a run have seeds of their own, all below it


def run_recipe(config: DictConfig, callbacks: Sequence[Callback] = ()) -> Path:
    """Trains the stages named in `config.run`; finished ones are skipped, an interrupted one goes on.

    Args:
        config: see conf/train.yaml.
        callbacks: of the caller, beside the recipe's own.

    Returns:
        The exported weights of the last stage, also copied to `config.out`.

    Raises:
        TrainingError, ValueError, OSError: bad input, before the first step, in one sentence.
        Interrupted: a signal ended the training, whose checkpoint is written.
    """
    _quieten()
    check_options(config)
    check_trainer(config.trainer)
    check_groups(config)
    out, family = Path(config.out), family_of(config)
    _check_order(config, family, out)
    with _alone_in(out):
        config.trainer.precision = trainer_precision(config.trainer)
        return _run_stages(config, family, out, callbacks)


def _run_stages(config: DictConfig, family: Family, out: Path, callbacks: Sequence[Callback]) -> Path:
    weights = None if config.init_from is None else Path(config.init_from)
    for name in family.stages:
        folder = out / name
        if name in config.run and not _is_done(folder, config.stages[name].module.settings):
            train_stage(config, family, name, folder, weights, callbacks)
        elif name in config.run:
            log.info("stage %s is done: %s", name, folder / EXPORT)
        if (folder / EXPORT).is_file():
            weights = folder / EXPORT
    assert weights is not None
    _publish(weights, out / EXPORT)
    return out / EXPORT


def _is_rank_zero() -> bool:
    """Also before the processes have found each other."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Keeps a second training out of the folder; the lock goes with the process that holds it.

    Raises:
        TrainingError: another process trains there.
    """
    if not _is_rank_zero():
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(f"{out}: another training writes here; stop it, or give out=FOLDER") from None
    try:
        yield
    finally:
        lock.release()


@rank_zero_only
def _publish(weights: Path, final: Path) -> None:
    for name in (CARD, CONFIG, final.name):
        if (weights.parent / name).is_file():  # weights from elsewhere may have no card
            with replacing(final.parent / name) as temporary:
                shutil.copyfile(weights.parent / name, temporary)
    log.info("weights: %s", final)


def _is_done(folder: Path, settings: DictConfig) -> bool:
    """Whether the stage was exported after as many steps (or minutes) as are asked for now; else it is extended.

    One that early stopping has ended is done.
    """
    summary = folder / SUMMARY
    if not (folder / EXPORT).is_file() or not summary.is_file():
        return False
    facts = json.loads(summary.read_text())
    out_of_time = settings.minutes is not None and facts["minutes"] >= settings.minutes
    return bool(facts["steps"] >= settings.steps or out_of_time or facts.get("stopped_early", False))


def _check_order(config: DictConfig, family: Family, out: Path) -> None:
    stages = family.stages
    unknown = [name for name in config.run if name not in stages]
    if unknown or not config.run:
        raise TrainingError(f"run={list(config.run)}: choose stages among {', '.join(stages)}")
    first = min(stages.index(name) for name in config.run)
    if first and config.init_from is None and not any((out / s / EXPORT).is_file() for s in stages[:first]):
        raise TrainingError(
            f"stage {stages[first]} starts from trained weights: run stage {stages[first - 1]} first, "
            "or give init_from=FILE"
        )
    family.check(config)
    OmegaConf.to_container(config, resolve=True)  # what cannot be resolved comes out now, not after the training


def train_stage(
    config: DictConfig,
    family: Family,
    name: str,
    folder: Path,
    weights: Path | None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Trains one stage in `folder` and exports its averaged weights there.

    Args:
        config: the composed configuration. family: of the codec.
        name: of the stage.
        folder: for checkpoints, logs, panels and the export.
        weights: to start from; None for fresh ones.
        callbacks: beside the recipe's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = _is_rank_zero()
    if first:
        clear_leftovers(folder)
    checkpoint = newest_sound(folder, tidy=first)
    if first and checkpoint is None:
        forget_run(folder)
    stage_config = copy.deepcopy(config.stages[name])
    settings = stage_config.module.settings
    settings.seed += _SEED_STEP * config.seed
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    start = family.start(config, name, weights)
    if config.channels_last:
        start.codec.to(memory_format=torch.channels_last)
    stage: Stage = make(stage_config.module, codec=start.codec, codec_config=start.config)
    if weights is not None and checkpoint is None:
        _load_predictor(stage, weights.parent / PREDICTOR)
    stage.fresh = start.fresh
    stage.prepare()
    if config.compile:
        compile_blocks(stage, None if config.compile is True else plain(config.compile))
    data = _data(config.data, stage_config, settings.seed, family)
    trainer = make_trainer(
        config.trainer,
        {
            "default_root_dir": str(folder),
            "val_check_interval": stage_config.val_every,
            "use_distributed_sampler": not isinstance(data, StreamDataModule),  # whose ranks share one stream
        },
        [*_callbacks(config, family, name, folder), *callbacks],
        make_loggers(config, name, folder),
    )
    log.info("stage %s: %s", name, "starts" if checkpoint is None else f"goes on from {checkpoint}")
    _fit(trainer, stage, data, checkpoint)
    _check_done(stage, name)
    _export(stage, config, family, name, folder, data)
    trainer.strategy.barrier()  # the next stage reads what rank 0 exports


def _fit(trainer: Trainer, stage: Stage, data: LightningDataModule, checkpoint: Path | None) -> None:
    try:
        trainer.fit(stage, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        problem = wandb_problem(error) or checkpoint_problem(error, checkpoint) or configuration_problem(error)
        if problem is None:
            raise
        raise TrainingError(problem) from error
    for callback in _callbacks_of(trainer):
        if isinstance(callback, KeepLast):
            callback.finish(trainer)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()  # the next stage is a run of its own


def _data(config: DictConfig, section: DictConfig, seed: int, family: Family) -> LightningDataModule:
    """The data module; one of another author takes of the stage's settings what it knows."""
    batch_size = section.batch_size * section.module.settings.get("accumulate", 1)  # of a step
    settings = {"crop_size": section.crop_size, "batch_size": batch_size, "seed": seed}
    config = config.copy()
    with open_dict(config):
        config.pop("test", None)  # which is for evaluate.py
    data: LightningDataModule = make(config, **fill(config, **settings, **family.data_options(section)))
    return data


def _callbacks(config: DictConfig, family: Family, name: str, folder: Path) -> list[Callback]:
    """The recipe's own, then those of the group, in the stage's folder where they take one."""
    found = entries(config, "callbacks").values()
    configured = [make(entry, **fill(entry, folder=folder, dirpath=str(folder))) for entry in found]
    return [
        LogConfiguration(config),
        RefuseEmptyEpochs(),
        Validate(folder / "panels", family.decode(name)),
        *configured,
    ]


def _callbacks_of(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # which Lightning does not declare
    return callbacks


def _stopped_early(stage: Stage) -> bool:
    return any(
        isinstance(each, EarlyStopping) and each.stopping_reason != EarlyStoppingReason.NOT_STOPPED
        for each in _callbacks_of(stage.trainer)
    )


def _check_done(stage: Stage, name: str) -> None:
    """Holds that the stage has trained what it was to train.

    Raises:
        TrainingError: something else ended it.
    """
    if stage.progress < 1.0 and not _stopped_early(stage):
        raise TrainingError(
            f"stage {name} was ended after {stage.train_step} of its {stage.settings.steps} steps, by "
            "trainer.max_epochs, a callback or data without a batch: it is not exported; the same command without that "
            "goes on"
        )


def _load_predictor(stage: Stage, path: Path) -> None:
    """A stage goes on with the latent code predictor that the stage before has trained, where there is one."""
    predictor = getattr(stage, "predictor", None)
    if not isinstance(predictor, CodePredictor):
        return
    if path.is_file():
        load_strictly(predictor, read_pickle(path), str(path))
    else:
        log.info("no code predictor beside the weights (%s): it starts untrained", path)


def _quieten() -> None:
    """Lightning's hints on things that are so on purpose would hide our own lines."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*treespec, LeafSpec.*",
        ".*in eval mode at the start of training.*",
        ".*many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _export(stage: Stage, config: DictConfig, family: Family, name: str, folder: Path, data: Any) -> None:
    """Averaged weights with fitted priors, model card, predictor and summary; every rank calls it, rank 0 writes."""
    state = full_state(stage.averaged)  # of every rank, where parameters are sharded
    predictor = getattr(stage, "predictor", None)
    predictor_state = full_state(predictor) if isinstance(predictor, CodePredictor) else None
    if not stage.trainer.is_global_zero:
        return
    codec = build_any(stage.codec_config)
    codec.load_state_dict(state)
    if family.codes_z(codec, name) and config.prior_batches:
        fit_z_prior(codec.to(stage.device).eval(), data, config.prior_batches)
    write_model_card(folder, training_facts(stage, stage.trainer, config, name))
    if predictor_state is not None:
        content = io.BytesIO()  # its own writing to files hides a full disk
        torch.save(predictor_state, content)
        write_bytes(folder / PREDICTOR, content.getvalue())
    save_codec(codec, stage.codec_config, folder / EXPORT)
    facts = {
        "stage": type(stage).__name__,
        "steps": stage.train_step,
        "minutes": round(stage.seconds / 60, 2),
    }
    facts["skipped_steps"] = int(stage.bad_steps)
    facts["stopped_early"] = _stopped_early(stage)
    write_text(folder / SUMMARY, json.dumps(facts, indent=1) + "\n")
    log.info("stage exported to %s: %s", folder / EXPORT, facts)
