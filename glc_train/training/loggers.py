"""Loggers of a stage; a resumed stage goes on in the same run of Weights & Biases."""

import inspect
import secrets
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from omegaconf import DictConfig

from glc_train.files import write_text
from glc_train.training.section import plain
from glc_train.training.stage import TrainingError
from glc_train.training.trainer import entries, fill, make

RUN_ID = "wandb_run_id.txt"
_GROUP_LENGTH = 128  # of W&B


def forget_run(folder: Path) -> None:
    """To be called when the stage in `folder` starts from its first step: that is a run of its own."""
    (folder / RUN_ID).unlink(missing_ok=True)


def check_groups(config: DictConfig) -> None:
    """Refuses entries of `callbacks` and `logger` that cannot be made, and an `objective` that nobody logs.

    Raises:
        TrainingError: says what to give.
    """
    entries(config, "callbacks")
    loggers = entries(config, "logger").values()
    if config.get("objective") is not None and not any(_is(entry, CSVLogger) for entry in loggers):
        raise TrainingError(f"objective={config.objective} is read from CSV logs: give logger=csv, or a list with it")


def make_loggers(config: DictConfig, stage: str, folder: Path) -> list[Logger]:
    """The loggers of `config.logger`.

    Args:
        config: the composed configuration.
        stage: its name.
        folder: of the stage.
    """
    group = run_group(str(config.get("name", "run")), Path(config.out))
    return [make(entry, **logger_options(entry, folder, group, stage)) for entry in entries(config, "logger").values()]


def run_group(name: str, out: Path) -> str:
    """What the stages of one run have in common in W&B: its name; in a sweep the job's number, too."""
    return (name if out.name == name else f"{name}/{out.name}")[-_GROUP_LENGTH:]


def logger_options(config: DictConfig, folder: Path, group: str, stage: str) -> dict[str, Any]:
    """Arguments of a logger beside those in its configuration.

    Args:
        config: with the logger's `_target_`.
        folder: of the stage; keeps the run's id.
        group: of the stages of one run.
        stage: its name.
    """
    options: dict[str, Any] = fill(config, save_dir=str(folder))
    if not _is(config, WandbLogger):
        return options
    options |= {k: v for k, v in {"group": group, "job_type": stage}.items() if config.get(k) is None}
    if not (config.get("id") or config.get("version")):
        note = folder / RUN_ID
        if not note.is_file():
            write_text(note, secrets.token_hex(4))
        options["id"] = note.read_text(encoding="utf-8").strip()
    return options


def _is(config: DictConfig, kind: type) -> bool:
    target = get_object(config._target_)
    return inspect.isclass(target) and issubclass(target, kind)


class LogConfiguration(Callback):
    """Gives every logger the whole composed configuration, once the stage can start.

    Args:
        config: the composed configuration.
    """

    def __init__(self, config: DictConfig) -> None:
        self.content = plain(config)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs it, as hyperparameters."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self.content)


def wandb_problem(error: Exception) -> str | None:
    """What to do about an error of Weights & Biases, in one sentence; None for other errors."""
    if not any(kind.__module__.startswith("wandb.errors") for kind in type(error).__mro__):
        return None
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"logger=wandb: {reason}; or set WANDB_MODE=offline, or leave logger=wandb out"
