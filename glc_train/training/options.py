"""Checks the composed configuration before anything starts: that no value is missing, and each is of its kind."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from hydra.utils import get_object
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from glc_train.training.section import check_section, parameters_of
from glc_train.training.settings import StageSettings
from glc_train.training.stage import TrainingError
from glc_train.training.trainer import class_named

_CHECKED = ("glc_train.", "lightning.")  # classes of others may take more than their annotations say
_ELSEWHERE = ("model.", "trainer.")  # where another sentence says what may be there
_LIST_WANTED = {"is_instance_of", "list_type", "sequence_str", "tuple_type"}
_TEXT_WANTED = {"path_type", "string_type"}
# Options that no class is made of, so that no annotation speaks of them.
_OF_RUN: dict[str, Any] = {
    "run": list[Any] | None,
    "init_from": Path | None,
    "image": Path | None,
    "channels_last": bool,
    "seed": int,
    "compile": bool | dict[str, Any],
    "prior_batches": int,
}
_OF_STAGE: dict[str, Any] = dict.fromkeys(("crop_size", "batch_size", "frames", "val_every"), int) | {
    field.name: field.type for field in dataclasses.fields(StageSettings)
}


def check_options(config: DictConfig) -> None:
    """Holds the values of a configuration against the annotations of the classes of `_target_`: ours, Lightning's.

    Raises:
        TrainingError: names the first option that has no value or one of the wrong kind, and what to give instead.
        OmegaConfBaseException: a value refers to one that is not there.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        options = " ".join(f"{option}=VALUE" for option in missing)
        raise TrainingError(f"{', '.join(missing)} has no value: give {options}")
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    sections = list(_sections(values, ""))
    for path, section in sections:
        if not path.startswith(_ELSEWHERE):
            class_named(f"{path}_target_", section["_target_"])
    of_stages = {
        f"stages.{stage}.{name}": _OF_STAGE[name]
        for stage, own in values["stages"].items()
        for name in _OF_STAGE.keys() & own.keys()
        if (name, own[name]) != ("seed", None)
    }
    for option, kind in (_OF_RUN | of_stages).items():
        value = OmegaConf.select(config, option)
        _check(option, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, kind)
    for name, section in config.stages.items():
        check_section(section, str(name), config.data)
    _check_accelerator((values.get("trainer") or {}).get("accelerator"))
    for path, section in sections:
        if not section["_target_"].startswith(_CHECKED):
            continue
        parameters = parameters_of(get_object(section["_target_"]))
        annotations = {name: p.annotation for name, p in parameters.items() if p.annotation is not p.empty}
        if path == "trainer.":  # null: not given; `trainer_precision` knows more words than Lightning
            section = {name: value for name, value in section.items() if value is not None and name != "precision"}
        for name in section.keys() & annotations.keys():
            _check(path + name, section[name], annotations[name])


def _sections(values: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths (with a dot at the end) and contents of all sections that name a class."""
    if isinstance(values, list):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return
    if isinstance(values.get("_target_"), str):
        yield path, values
    for name, value in values.items():
        yield from _sections(value, f"{path}{name}.")


def _check(option: str, value: Any, annotation: Any) -> None:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        return  # becomes an object, and has a section of its own
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return  # such as a function, which no value on a command line can be
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        raise TrainingError(f"{option}={_shown(value)}: {_advice(option, value, problem)}") from None


def _check_accelerator(accelerator: Any) -> None:
    cuda = CUDAAccelerator.is_available()
    there = {"cuda": cuda, "gpu": cuda or MPSAccelerator.is_available()}
    if not there.get(accelerator, True):
        raise TrainingError(f"trainer.accelerator={accelerator}: PyTorch finds no such device here; give trainer=cpu")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _advice(option: str, value: Any, problem: Mapping[str, Any]) -> str:
    if problem["type"] in _LIST_WANTED and not isinstance(value, list) and value is not None:
        return f"a list is wanted, give '{option}=[{_shown(value)}]'"
    if problem["type"] in _TEXT_WANTED and value is not None:
        text = [str(item) for item in value] if isinstance(value, list) else str(value)
        return f"text is wanted, give '{option}={json.dumps(text)}'"
    return str(problem["msg"])[0].lower() + str(problem["msg"])[1:]
