"""Runs the stages of a recipe in order, each from the weights of the one before."""

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from omegaconf import DictConfig

from glc_train.files import replacing
from glc_train.losses import CodePredictor
from glc_train.training.checkpoint import KeepLast, checkpoint_problem, clear_leftovers, newest_sound
from glc_train.training.compilation import compile_blocks
from glc_train.training.epochs import RefuseEmptyEpochs
from glc_train.training.latent_stage import LatentStage
from glc_train.training.loggers import LogConfiguration, check_groups, forget_run, make_loggers, wandb_problem
from glc_train.training.model_card import CARD, CONFIG, write_model_card
from glc_train.training.monitors import SayUnlogged
from glc_train.training.options import check_options
from glc_train.training.plan import SayPlan, duration
from glc_train.training.prior import fit_z_prior
from glc_train.training.record import EXPORT, check_start, is_done, read_start, write_start, write_summary
from glc_train.training.section import make_data, make_stage, plain, settings_of, stage_class
from glc_train.training.sharding import full_state
from glc_train.training.stage import Stage, TrainingError
from glc_train.training.start import find_model, start
from glc_train.training.trainer import check_trainer, configuration_problem, entries, fill, make, make_trainer
from glc_train.training.trainer_precision import trainer_precision
from glc_train.transform import IndexTransform
from glc_train.weights import build_any, load_strictly, read_training_state, save_codec

log = logging.getLogger(__name__)
_SEED_STEP = 1000  # from one seed of a run to the next: the stages of a run have seeds of their own, all below it


def run_recipe(config: DictConfig, callbacks: Sequence[Callback] = ()) -> Path:
    """Trains the stages of `config.stages`, or those in `config.run`; skips done ones, goes on with an interrupted one.

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
    with _alone_in(Path(config.out)):
        config.trainer.precision = trainer_precision(config.trainer)
        return _run_stages(config, callbacks)


def _run_stages(config: DictConfig, callbacks: Sequence[Callback]) -> Path:
    turns = plan_turns(config)
    ahead = {turn.name: settings_of(config.stages[turn.name]) for turn in turns if not turn.done}
    count = len(ahead)
    for turn in turns:
        if turn.done:
            log.info("stage %s is done: %s", turn.name, turn.folder / EXPORT)
        else:
            plan = SayPlan(turn.name, ahead, config.stages, first=len(ahead) == count)
            train_stage(config, turn, [plan, *callbacks])
            ahead = {name: settings for name, settings in ahead.items() if name != turn.name}
    final = Path(config.out) / EXPORT
    _publish(turns[-1].folder / EXPORT, final)
    return final


@dataclass(frozen=True)
class Turn:
    """A stage's turn in a run.

    Attributes:
        name: of the stage.
        folder: for checkpoints, logs, panels and the export.
        weights: that it starts from; None for fresh ones.
        seed: of its own.
        done: whether there is nothing left to train.
    """

    name: str
    folder: Path
    weights: Path | None
    seed: int
    done: bool


def plan_turns(config: DictConfig) -> list[Turn]:
    """The stages to run, in the order of `config.stages`.

    The first one starts from `config.init_from`, or else from the nearest stage before it that has been trained; each
    of the others from the one before it in the run.

    Raises:
        TrainingError: a stage is not there, or lacks what it starts from, or began from something else.
    """
    names, out = list(map(str, config.stages)), Path(config.out)
    run = names if config.run is None else list(config.run)
    unknown = [name for name in run if name not in names]
    if unknown or not run:
        raise TrainingError(f"run={run}: choose stages among {', '.join(names)}")
    run = [name for name in names if name in run]
    earlier = names[: names.index(run[0])]
    exports = [path for path in (out / name / EXPORT for name in reversed(earlier)) if path.is_file()]
    weights = Path(config.init_from) if config.init_from is not None else next(iter(exports), None)
    find_model(config, [path for path in (*exports, out / run[0] / EXPORT) if path.is_file()])
    turns: list[Turn] = []
    for name in run:
        section = config.stages[name]
        kind = stage_class(section, name)
        if weights is None and (earlier or kind.needs - {"image"}):
            before = f"run stage {earlier[-1]} first, or give" if earlier else "give"
            raise TrainingError(f"stage {name} starts from trained weights: {before} init_from=FILE")
        if config.model.transform is None and issubclass(kind, LatentStage):
            raise TrainingError(
                "model.transform=null codes the auto-encoder's indices alone and has no transform codec to train: "
                f"leave out stage {name}, as recipe=autoencoder does"
            )
        folder = out / name
        source = weights if weights is not None or config.get("image") is None else Path(config.image)
        check_start(folder, source, will_change=bool(turns) and not turns[-1].done)
        seed = names.index(name) if section.get("seed") is None else int(section.seed)
        turns.append(Turn(name, folder, weights, seed, is_done(folder, settings_of(section))))
        weights = folder / EXPORT
    return turns


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


def train_stage(config: DictConfig, turn: Turn, callbacks: Sequence[Callback] = ()) -> None:
    """Trains one stage and exports its averaged weights.

    Args:
        config: the composed configuration, after `plan_turns`.
        turn: of the stage.
        callbacks: beside the recipe's own.
    """
    folder, section = turn.folder, config.stages[turn.name]
    checkpoint, begins = _checkpoint(turn, section)
    seed = _SEED_STEP * config.seed + turn.seed
    lightning.seed_everything(seed, workers=True, verbose=False)
    begin = start(config, turn.weights, stage_class(section, turn.name).needs)
    stage = make_stage(section, begin.codec, begin.config, seed)
    if config.channels_last:
        stage.to(memory_format=torch.channels_last)
    if turn.weights is not None and checkpoint is None:
        _load_predictors(stage, turn.weights)
    stage.fresh = stage.codebook_of in begin.untrained - stage.needs
    stage.prepare()
    if begins and _is_rank_zero():
        write_start(folder, turn.weights or (Path(config.image) if config.get("image") else None))
    if config.compile:
        compile_blocks(stage, None if config.compile is True else plain(config.compile))
    data = make_data(config.data, section, stage.settings)
    trainer = make_trainer(
        config.trainer,
        {
            "default_root_dir": str(folder),
            "val_check_interval": section.val_every,
        },
        [*_callbacks(config, folder), *callbacks],
        make_loggers(config, turn.name, folder),
    )
    log.info("stage %s: %s", turn.name, "starts" if checkpoint is None else f"goes on from {checkpoint}")
    _fit(trainer, stage, data, checkpoint)
    _check_done(stage, turn.name)
    _export(stage, config, turn.name, folder, data)
    trainer.strategy.barrier()  # the next stage reads what rank 0 exports


def _checkpoint(turn: Turn, section: DictConfig) -> tuple[Path | None, bool]:
    """The checkpoint to go on from, if any, and whether the stage begins now.

    Raises:
        TrainingError: the stage before has left no checkpoint to begin from.
    """
    turn.folder.mkdir(parents=True, exist_ok=True)
    first = _is_rank_zero()
    if first:
        clear_leftovers(turn.folder)
    own = newest_sound(turn.folder, tidy=first)
    if own is not None:
        return own, False
    if first:
        forget_run(turn.folder)
    if section.get("start") != "checkpoint":
        return None, True
    assert turn.weights is not None
    before = turn.weights if turn.weights.suffix == ".ckpt" else newest_sound(turn.weights.parent, tidy=False)
    if before is None:
        raise TrainingError(
            f"stages.{turn.name}.start=checkpoint: there is none beside {turn.weights}; give start=weights, or a "
            "stage's last.ckpt as init_from"
        )
    return before, True


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


def _callbacks(config: DictConfig, folder: Path) -> list[Callback]:
    """The recipe's own, then those of the group, in the stage's folder where they take one."""
    found = entries(config, "callbacks").values()
    configured = [make(entry, **fill(entry, folder=folder, dirpath=str(folder))) for entry in found]
    return [LogConfiguration(config), RefuseEmptyEpochs(), SayUnlogged(), *configured]


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


def _predictors(stage: Stage) -> dict[str, CodePredictor]:
    """The code predictors of a stage, by name."""
    return {name: module for name, module in stage.named_children() if isinstance(module, CodePredictor)}


def _load_predictors(stage: Stage, weights: Path) -> None:
    """A stage goes on with the code predictors that are in the weights."""
    for name, predictor in _predictors(stage).items():
        state = read_training_state(weights, name)
        shapes = [{key: value.shape for key, value in each.items()} for each in (state, predictor.state_dict())]
        if state and shapes[0] == shapes[1]:
            load_strictly(predictor, state, f"{name} in {weights}")
        elif state:
            log.warning("the %s in %s has other sizes than this stage's: it starts untrained", name, weights)
        else:
            log.info("%s holds no %s: it starts untrained", weights, name)


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


def _export(stage: Stage, config: DictConfig, name: str, folder: Path, data: Any) -> None:
    """Averaged weights with fitted priors and predictors, card and summary; every rank calls it, rank 0 writes."""
    state = full_state(stage.averaged)  # of every rank, where parameters are sharded
    predictors = {name: full_state(predictor) for name, predictor in _predictors(stage).items()}
    if not stage.trainer.is_global_zero:
        return
    codec = build_any(stage.codec_config, trusted=True)
    codec.load_state_dict(state)
    codes_z = stage.codebook_of == "transform" or isinstance(codec.transform, IndexTransform)
    if codes_z and config.prior_batches:
        fit_z_prior(codec.to(stage.device).eval(), data, config.prior_batches)
    write_model_card(folder, stage, config, name, read_start(folder))
    save_codec(codec, stage.codec_config, folder / EXPORT, training=predictors, name=config.get("name"))
    facts = {
        "stage": type(stage).__name__,
        "steps": stage.train_step,
        "minutes": stage.seconds / 60,
        "skipped_steps": int(stage.bad_steps),
        "stopped_early": _stopped_early(stage),
    }
    write_summary(folder, facts)
    steps, took = f"{stage.train_step:,}", duration(stage.seconds)
    log.info("stage %s: exported to %s after %s steps in %s", name, folder / EXPORT, steps, took)
