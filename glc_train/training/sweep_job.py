"""One job of a sweep: its folder, and the number that a sweep optimises."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from glc_train.files import write_text
from glc_train.training.logs import read_curve
from glc_train.training.stage import TrainingError

_CLAIM = "job.yaml"


def claim_job_folder(folder: Path, overrides: Sequence[str]) -> None:
    """Notes in the folder of a job with what overrides it runs; the same overrides go on there.

    Raises:
        TrainingError: the folder has results of other overrides, which would be taken for this job's.
    """
    note = folder / _CLAIM
    if note.is_file():
        try:
            found = OmegaConf.to_container(OmegaConf.load(note))
        except (YAMLError, OmegaConfBaseException) as error:
            raise TrainingError(f"{note} is damaged: {str(error).splitlines()[0]}") from error
        if found != list(overrides):
            raise TrainingError(
                f"{folder} belongs to a job with other overrides ({note}): give this sweep another name=, "
                "or repeat its command to go on with it"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(note, OmegaConf.to_yaml(OmegaConf.create(list(overrides))))


@contextmanager
def launchable() -> Iterator[None]:
    """Lets Lightning start other ranks whatever the folder is called: it puts the name between quotes as it is."""
    run = cast(DictConfig, HydraConfig.get().run)
    given = run.dir
    with read_write(run):
        run.dir = QuotedString(given, Quote.double).with_quotes()[1:-1]
        try:
            yield
        finally:
            run.dir = given


@contextmanager
def as_single_run(folder: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Makes this process look like one that runs the job in `folder` alone, and afterwards like the sweep again.

    Lightning starts the other ranks with a copy of the command line: from that of the sweep they would begin a sweep of
    their own. And it leaves a process group and variables behind, by which the next job would look for dead ranks.
    """
    argv, environment = sys.argv, dict(os.environ)
    own = [override for override in overrides if not override.startswith("hparams_search=")]
    sys.argv = [argv[0], *own, f"out={QuotedString(str(folder), Quote.single).with_quotes()}"]
    try:
        with launchable():
            yield
    finally:
        sys.argv = argv
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def read_objective(config: DictConfig) -> float | None:
    """Last logged value of `config.objective` in the last stage of the run; None where no objective is set.

    Raises:
        LogError: the stage never logged it; says what it has.
    """
    if config.objective is None:
        return None
    stage = Path(config.out) / [name for name in config.stages if config.run is None or name in config.run][-1]
    return list(read_curve(stage, config.objective).values())[-1]
