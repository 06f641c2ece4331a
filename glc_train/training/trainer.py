"""The Trainer of a stage: every argument that is configured, and the recipe's own where nothing is."""

import inspect
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from typing import Any, cast

import lightning
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from glc_train.errors import is_for_user
from glc_train.training.checkpoint import WholeFiles
from glc_train.training.distributed import GradientAveraging
from glc_train.training.sharding import Sharding
from glc_train.training.stage import TrainingError

_SETTINGS = "stages.NAME"
_ELSEWHERE = {  # what the stages do themselves, because they optimise by hand
    "accumulate_grad_batches": f"{_SETTINGS}.accumulate",
    "barebones": "callbacks=null logger=null",
    "callbacks": "+callbacks.NAME._target_=CLASS",
    "fast_dev_run": f"{_SETTINGS}.steps=1",
    "gradient_clip_algorithm": f"{_SETTINGS}.gradient_clip_val, a norm",
    "gradient_clip_val": f"{_SETTINGS}.gradient_clip_val",
    "limit_predict_batches": "evaluate.py limit=N",
    "limit_test_batches": "evaluate.py limit=N",
    "logger": "logger=null, csv, tensorboard or wandb",
    "max_steps": f"{_SETTINGS}.steps",
    "max_time": f"{_SETTINGS}.minutes",
    "min_epochs": f"{_SETTINGS}.steps",
    "min_steps": f"{_SETTINGS}.steps",
    "overfit_batches": "data.train.root=FOLDER of few pictures",
}
_SWITCHES: dict[str, type[Callback]] = {
    "enable_checkpointing": Checkpoint,
    "enable_model_summary": ModelSummary,
    "enable_progress_bar": ProgressBar,
}
_STRATEGIES = {"ddp": GradientAveraging, "fsdp": Sharding}


def make(config: Mapping[Any, Any], **arguments: Any) -> Any:
    """Instantiates a configuration; what its constructor refuses comes out as one sentence.

    A mistake in a class, such as one of the user's own, keeps its traceback.

    Raises:
        TrainingError: with that sentence.
    """
    try:
        return instantiate(config, _partial_=True)(**arguments)
    except (InstantiationException, MisconfigurationException) as error:
        cause = error.__cause__ or error
        if not (is_for_user(cause) or _is_of_configuration(cause)):
            raise
        raise TrainingError(str(cause).splitlines()[0]) from error


def _is_of_configuration(error: BaseException) -> bool:
    """Whether it tells of arguments: raised by Lightning, or by the call of a constructor and not inside it."""
    frames = list(walk_tb(error.__traceback__))
    where = frames[-1][0].f_globals.get("__name__", "") if frames else ""
    return isinstance(error, MisconfigurationException) or where.partition(".")[0] in ("hydra", "lightning")


def class_named(option: str, target: str) -> Any:
    """What `target` names. Raises TrainingError, naming the `option` that has it, where that is not there."""
    try:
        return get_object(target)
    except (ImportError, ValueError) as error:
        raise TrainingError(f"{option}={target}: {str(error).splitlines()[0]}") from error


def configuration_problem(error: Exception) -> str | None:
    """Lightning's sentence about arguments that do not go together; None for other errors."""
    return str(error).splitlines()[0] if isinstance(error, MisconfigurationException) else None


def fill(config: Mapping[Any, Any], **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that the class in `config._target_` takes by name and `config` leaves open."""
    taken = inspect.signature(get_object(config["_target_"])).parameters
    return {name: value for name, value in arguments.items() if name in taken and config.get(name) is None}


def entries(config: DictConfig, group: str) -> dict[str, DictConfig]:
    """The entries of a group such as `callbacks` by name; none where the group is null or dropped.

    Raises:
        TrainingError: one names no class, or an argument that its class does not have.
    """
    found = {str(name): entry for name, entry in (config.get(group) or {}).items() if entry is not None}
    for name, entry in found.items():
        if not OmegaConf.is_dict(entry) or "_target_" not in entry:
            raise TrainingError(f"{group}.{name} names no class: give +{group}.{name}._target_=CLASS")
        parameters = inspect.signature(class_named(f"{group}.{name}._target_", entry._target_)).parameters
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            continue
        for argument in map(str, entry):
            if argument not in parameters and not argument.startswith("_"):
                raise TrainingError(f"{group}.{name}.{argument}: {entry._target_} has no such argument")
    return found


def check_trainer(config: DictConfig) -> None:
    """Refuses arguments of the Trainer that a stage could not honour.

    Raises:
        TrainingError: names the first one, and what to give instead.
    """
    parameters = inspect.signature(get_object(config._target_)).parameters
    for key, value in config.items():
        name = str(key)
        if name in _ELSEWHERE and value not in (None, parameters[name].default):
            raise TrainingError(f"trainer.{name}={value}: a stage has its own setting, give {_ELSEWHERE[name]}")
        if name not in parameters and name != "_target_":
            raise TrainingError(f"trainer.{name}: {config._target_} has no such argument")
    strategy = config.get("strategy")
    if isinstance(strategy, str) and strategy not in ("auto", *_STRATEGIES):
        raise TrainingError(
            f"trainer.strategy={strategy}: choose among auto, {', '.join(_STRATEGIES)}, or give "
            "'trainer.strategy={_target_: CLASS}'"
        )


def make_trainer(
    config: DictConfig,
    defaults: Mapping[str, Any],
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
) -> lightning.Trainer:
    """The Trainer as `config`, the section of that name, has it.

    Args:
        config: see conf/trainer/_base.yaml.
        defaults: arguments where the configuration says nothing of them; an interval of validations counts for nothing
            where they go by epochs.
        callbacks: without those that `enable_...=false` leaves out they are the Trainer's.
        loggers: likewise.

    Raises:
        TrainingError: Lightning refuses an argument.
    """
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    given = {name: value for name, value in content.items() if value is not None}
    profiler = given.get("profiler")
    if isinstance(profiler, dict):
        profiler |= fill(profiler, dirpath=defaults["default_root_dir"])
    for switch, kind in _SWITCHES.items():
        if given.get(switch) is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, kind)]
        given.setdefault(switch, any(isinstance(callback, kind) for callback in callbacks))
    by_epochs = given.setdefault("check_val_every_n_epoch", None) is not None
    given = {k: v for k, v in defaults.items() if not (by_epochs and k == "val_check_interval")} | given
    trainer: lightning.Trainer = make(given, strategy=_strategy(given), callbacks=list(callbacks), logger=list(loggers))
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # else it is the user's
        trainer.strategy.checkpoint_io = WholeFiles()
    return trainer


def _strategy(given: dict[str, Any]) -> Any:
    """The strategy for the devices that are asked for: PyTorch's own data parallelism fails on two backward passes."""
    strategy = given.pop("strategy", "auto")
    if not isinstance(strategy, str):
        return make(strategy) if isinstance(strategy, dict) else strategy
    if strategy == "auto":
        where = {name: given[name] for name in ("accelerator", "devices", "num_nodes") if name in given}
        quiet = dict.fromkeys((*_SWITCHES, "logger"), False)
        several = isinstance(make({"_target_": "lightning.Trainer"}, **where, **quiet).strategy, DDPStrategy)
        strategy = "ddp" if several else strategy
    return _STRATEGIES[strategy]() if strategy in _STRATEGIES else strategy
