"""Checks the composed configuration before anything starts: that no value is missing, and each is of its kind."""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from hydra.utils import get_object
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from glc_train.training.stage import TrainingError

_OURS = "glc_train."  # classes of others may take more than their annotations say
_NETWORKS = (
    "glc_train.codecs.ImageCodec",
    "glc_train.autoencoder.VQVAE",
    "glc_train.transform.ImageTransform",
    "glc_train.transform.VideoTransform",
)
_LIST_WANTED = {"is_instance_of", "list_type", "sequence_str", "tuple_type"}
_TEXT_WANTED = {"path_type", "string_type"}
# Options that no class is made of, so that no annotation speaks of them.
_OF_RUN: dict[str, Any] = {
    "run": list[Any],
    "init_from": Path | None,
    "image": Path | None,
    "channels_last": bool,
    "seed": int,
    "compile": bool | dict[str, Any],
    "prior_batches": int,
}
_OF_STAGE = {"crop_size", "batch_size", "frames", "val_every"}


def check_options(config: DictConfig) -> None:
    """Holds the values of a configuration against the annotations of the classes of ours that `_target_` names.

    Raises:
        TrainingError: names the first option that has no value or one of the wrong kind, and what to give instead.
        OmegaConfBaseException: a value refers to one that is not there.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        options = " ".join(f"{option}=VALUE" for option in missing)
        raise TrainingError(f"{', '.join(missing)} has no value: give {options}")
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    of_stages = {
        f"stages.{stage}.{name}": int for stage, own in values["stages"].items() for name in _OF_STAGE & own.keys()
    }
    for option, kind in (_OF_RUN | of_stages).items():
        value = OmegaConf.select(config, option)
        _check(option, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, kind)
    _check_networks(values)
    _check_accelerator((values.get("trainer") or {}).get("accelerator"))
    for path, section in _sections(values, ""):
        annotations = _annotations_of(_found(path, section["_target_"]))
        for name in section.keys() & annotations.keys():
            _check(path + name, section[name], annotations[name])


def _sections(values: Any, path: str, everyone: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths (with a dot at the end) and contents of all sections that name a class of ours, or of `everyone`."""
    if isinstance(values, list):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return
    target = values.get("_target_")
    if str(target).startswith(_OURS) or (everyone and target is not None):
        yield path, values
    for name, value in values.items():
        yield from _sections(value, f"{path}{name}.", everyone)


def _found(path: str, target: str) -> type:
    try:
        found: type = get_object(target)
    except (ImportError, ValueError) as error:
        raise TrainingError(f"{path}_target_={target}: {str(error).splitlines()[0]}") from error
    return found


def _annotations_of(kind: type) -> dict[str, Any]:
    """Names and annotations of all arguments that a class takes, or hands on to its bases."""
    makers = [vars(base)["__init__"] for base in reversed(inspect.getmro(kind)) if "__init__" in vars(base)]
    annotations: dict[str, Any] = {}
    for maker in makers:
        parameters = inspect.signature(maker, eval_str=True).parameters.values()
        annotations |= {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    return annotations


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


def _check_networks(values: dict[str, Any]) -> None:
    """Refuses networks of others, in place of which a file's reader would build ours."""
    for part in ("model", "video"):
        for path, section in _sections(values.get(part), f"{part}.", everyone=True):
            target = str(section["_target_"])
            if target not in _NETWORKS:
                raise TrainingError(
                    f"{path}_target_={target}: networks of your own cannot be trained yet; give {', '.join(_NETWORKS)} "
                    "where it belongs, as conf/model/ does"
                )


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
