"""A stage's section of the configuration: what of it is the stage's, what its settings', and what the data's."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, cast, get_args

from hydra.utils import get_object
from lightning import LightningDataModule
from omegaconf import DictConfig, OmegaConf

from glc_train.codecs import Codec
from glc_train.data import ClipDataModule, PictureDataModule
from glc_train.training.settings import StageSettings
from glc_train.training.stage import Stage, TrainingError
from glc_train.training.trainer import class_named, fill, make

STARTS = ("weights", "checkpoint")
_OF_RECIPE = ("_target_", "start", "val_every")
_OF_DATA = ("crop_size", "batch_size", "frames")  # data of another author need not take them
_LEAST = dict.fromkeys(("steps", "accumulate", "batch_size", "crop_size", "val_every"), 1) | {"frames": 2}
_LEAST |= dict.fromkeys(("lr", "muon_lr", "weight_decay", "gradient_clip_val", "ema_decay"), 0)
_SETTINGS = [field.name for field in dataclasses.fields(StageSettings)]


def plain(section: Mapping[Any, Any]) -> dict[str, Any]:
    """A section of the configuration as plain values."""
    return cast(dict[str, Any], OmegaConf.to_container(section, resolve=True))


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """All arguments that a class takes by name, or hands on to its bases."""
    makers = [vars(base)["__init__"] for base in reversed(inspect.getmro(kind)) if "__init__" in vars(base)]
    found: dict[str, inspect.Parameter] = {}
    for maker in makers:
        parameters = inspect.signature(maker, eval_str=True).parameters
        found |= {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return found


def stage_class(section: DictConfig, name: str) -> type[Stage]:
    """The class of stage `name`.

    Raises:
        TrainingError: there is none, or it is no stage.
    """
    found = class_named(f"stages.{name}._target_", section._target_)
    if not (inspect.isclass(found) and issubclass(found, Stage)):
        raise TrainingError(
            f"stages.{name}._target_={section._target_} is no stage: give a subclass of {Stage.__name__}"
        )
    return found


def check_section(section: DictConfig, name: str, data: DictConfig) -> None:
    """Refuses options of stage `name` that nobody takes, and values that cannot be.

    Raises:
        TrainingError: names the first.
    """
    parameters = parameters_of(stage_class(section, name))
    known = {*_OF_RECIPE, *_OF_DATA, *_SETTINGS, *parameters}
    for option in map(str, section):
        if option not in known and not fill(data, **{option: None}):
            raise TrainingError(f"stages.{name}.{option}: neither the stage nor its data has such an option")
    for option, least in _LEAST.items():
        if (value := section.get(option)) is not None and value < least:
            raise TrainingError(f"stages.{name}.{option} must be at least {least}, not {value}")
    if (minutes := section.get("minutes")) is not None and minutes <= 0:
        raise TrainingError(f"stages.{name}.minutes must be above 0, or null, not {minutes}")
    if section.get("start", STARTS[0]) not in STARTS:
        raise TrainingError(f"stages.{name}.start={section.start}: choose {' or '.join(STARTS)}")


def settings_of(section: DictConfig, **changes: Any) -> StageSettings:
    """The settings in the section, with changes."""
    given = {
        name: value for name, value in plain(section).items() if name in _SETTINGS and (name, value) != ("seed", None)
    }
    target = f"{StageSettings.__module__}.{StageSettings.__name__}"
    settings: StageSettings = make({"_target_": target, **given, **changes})
    return settings


def make_stage(section: DictConfig, codec: Codec, codec_config: Mapping[str, Any], seed: int = 0) -> Stage:
    """The stage with all its parts; their sizes follow the codec where the section does not say them.

    Args:
        section: of the stage.
        codec: that it trains.
        codec_config: that built the codec.
        seed: of all that it draws.
    """
    content = plain(section)
    parameters = parameters_of(get_object(content["_target_"]))
    sizes = {
        "quality_levels": codec.quality_levels,
        "latent_channels": codec.latent_channels,
        "codes": codec.autoencoder.quantiser.codes,
    }
    parts = {name: content[name] for name in content if name in parameters or name == "_target_"}
    for name, value in parts.items():
        if isinstance(value, dict) and "_target_" in value:
            kept = _without_leftovers(value, parameters[name].annotation)
            parts[name] = kept | fill(kept, **sizes)
    settings = settings_of(section, seed=seed)
    stage: Stage = make(parts, codec=codec, codec_config=codec_config, settings=settings)
    return stage


def _without_leftovers(part: dict[str, Any], annotation: Any) -> dict[str, Any]:
    """A section without the options of the class of ours (in the annotation) whose place another class has taken.

    Such as `picture._target_=my_losses.Mine`, which is merged with the options of `PictureLoss`.
    """
    kind = get_object(part["_target_"])
    ours = [each for each in (annotation, *get_args(annotation)) if inspect.isclass(each) and each is not kind]
    taken = parameters_of(kind) if inspect.isclass(kind) else inspect.signature(kind).parameters
    left = {name for each in ours for name in parameters_of(each)} - taken.keys()
    return {name: value for name, value in part.items() if name not in left}


def make_data(config: DictConfig, section: DictConfig, settings: StageSettings) -> LightningDataModule:
    """The data module of a stage; one of another author takes of the stage's options what it knows.

    Args:
        config: the data's section.
        section: the stage's.
        settings: of the stage.
    """
    own = {*_OF_RECIPE, *_SETTINGS, *parameters_of(get_object(section._target_))}
    options = {name: value for name, value in plain(section).items() if name not in own}
    if "batch_size" in options:
        options["batch_size"] *= settings.accumulate  # the batches of one step come as one
    given = {str(name): value for name, value in config.items() if name != "test"}  # which is for evaluate.py
    given = _without_leftovers(given, PictureDataModule | ClipDataModule)
    data: LightningDataModule = make(given, **fill(given, **options, seed=settings.seed))
    return data
