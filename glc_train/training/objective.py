"""The one number of a finished run that a sweep optimises."""

from pathlib import Path

from omegaconf import DictConfig

from glc_train.training.logs import read_curve
from glc_train.training.recipe import STAGES


def last_stage(config: DictConfig) -> Path:
    """Folder of the last stage that `config.run` names."""
    return Path(config.out) / max(config.run, key=STAGES.index)


def read_objective(config: DictConfig) -> float | None:
    """Last logged value of `config.objective` in the last stage of the run; None where no objective is set.

    Raises:
        LogError: the stage never logged it; says what it has.
    """
    if config.objective is None:
        return None
    return list(read_curve(last_stage(config), config.objective).values())[-1]
