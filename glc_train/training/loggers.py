"""Loggers of a stage; a resumed stage goes on in the same run of Weights & Biases."""

import inspect
import secrets
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig

from glc_train.files import write_text

RUN_ID = "wandb_run_id.txt"


def forget_run(folder: Path) -> None:
    """To be called when the stage in `folder` starts from its first step: that is a run of its own."""
    (folder / RUN_ID).unlink(missing_ok=True)


def logger_options(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of a logger beside those in its configuration.

    Args:
        config: with the logger's `_target_`. folder: of the stage; keeps the run's id.
    """
    options: dict[str, Any] = {"save_dir": str(folder)}
    target = get_object(config._target_)
    if inspect.isclass(target) and issubclass(target, WandbLogger) and not (config.get("id") or config.get("version")):
        note = folder / RUN_ID
        if not note.is_file():
            write_text(note, secrets.token_hex(4))
        options["id"] = note.read_text(encoding="utf-8").strip()
    return options


def wandb_problem(error: Exception) -> str | None:
    """What to do about an error of Weights & Biases, in one sentence; None for other errors."""
    if not any(kind.__module__.startswith("wandb.errors") for kind in type(error).__mro__):
        return None
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"logger=wandb: {reason}; or set WANDB_MODE=offline, or leave logger=wandb out"
