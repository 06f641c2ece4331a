"""What the configuration of a model may say: known settings within bounds, for it may come in a stranger's file.

The bounds leave the published models an order of magnitude of room. They keep building a model on the `meta` device, to
compare its shapes with those of a file, a matter of seconds.
"""

import math
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from glc_train.transform.image import Context, HyperPrior
from glc_train.weights.errors import WeightsError

Config = dict[str, Any]
Trusted = bool | Collection[str]  # classes of others that may be built: all of a configuration of one's own, or names
_OURS = "glc_train."
MAX_FACTOR = 256  # pixels of a side that one place of the latent stands for: a picture of one pixel is padded to four


@dataclass(frozen=True)
class _Rule:
    fits: Callable[[Any], bool]
    what: str

    def __or__(self, other: "_Rule") -> "_Rule":
        return _Rule(lambda value: self.fits(value) or other.fits(value), f"{self.what} or {other.what}")


def _whole(low: int, high: int) -> _Rule:
    return _Rule(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}")


def _one_of(kind: Any) -> _Rule:
    return _Rule(lambda value: value in get_args(kind), " or ".join(get_args(kind)))


def _list_of(rule: _Rule, most: int) -> _Rule:
    def fits(value: Any) -> bool:
        return isinstance(value, list | tuple) and 1 <= len(value) <= most and all(map(rule.fits, value))

    return _Rule(fits, f"a list of 1 to {most} entries, each {rule.what}")


_NULL = _Rule(lambda value: value is None, "null")
_FLAG = _Rule(lambda value: type(value) is bool, "true or false")
_WEIGHT = _Rule(lambda value: type(value) in (int, float) and 0 <= value < math.inf, "a number of at least 0")
_CHANNELS = _whole(1, 4096)
_CODES = _whole(1, 2**20)  # the most that a table of 24 bits is made for
_DEPTH = _whole(0, 16)
_CONTEXT_DEPTH = _whole(1, 16)
_LEVELS = _whole(1, 64)
_FRAMES = _whole(1, 2**32 - 1)

_SECTIONS: dict[str, dict[str, _Rule]] = {
    "autoencoder": {
        "widths": _list_of(_CHANNELS, 8),
        "latent_channels": _CHANNELS,
        "codes": _CODES,
        "res_blocks": _DEPTH,
        "patch": _whole(1, 16),
        "attention": _FLAG,
        "groups": _CHANNELS | _NULL,
        "window": _whole(1, 65536) | _NULL,
        "fsq_levels": _list_of(_whole(2, 1024), 16) | _NULL,
        "decoder_blocks": _list_of(_DEPTH, 8) | _NULL,
    },
    "transform": {
        "latent_channels": _CHANNELS,
        "channels": _CHANNELS,
        "hyper_channels": _CHANNELS,
        "codes": _CODES,
        "quality_levels": _LEVELS,
        "depth": _DEPTH,
        "context_depth": _CONTEXT_DEPTH,
        "context": _one_of(Context),
        "hyper_prior": _one_of(HyperPrior),
        "rdoq": _WEIGHT | _list_of(_WEIGHT, 64),
    },
    "video transform": {
        "latent_channels": _CHANNELS,
        "channels": _CHANNELS,
        "token_channels": _CHANNELS,
        "tokens": _whole(1, 1024),
        "heads": _whole(1, 256),
        "codes": _CODES,
        "quality_levels": _LEVELS,
        "depth": _DEPTH,
        "refine_depth": _DEPTH,
        "context_depth": _CONTEXT_DEPTH,
        "condition_channels": _CHANNELS,
        "adaptors": _whole(1, 256),
    },
    "gop": {
        "intra_period": _FRAMES | _NULL,
        "pattern": _list_of(_whole(0, 255), 64),
        "reset_interval": _FRAMES,
        "scene_cuts": _FLAG,
    },
}


def _sections(config: Any) -> Iterator[Mapping[str, Any]]:
    """The configuration of a codec and its sections, those of its image codec included."""
    if isinstance(config, Mapping):
        yield config
        for name, section in config.items():
            yield from _sections(section) if name == "image" else [section] if isinstance(section, Mapping) else ()


def foreign_classes(config: Mapping[str, Any]) -> list[str]:
    """Names of the classes that a codec's configuration asks for and that are not of this project."""
    targets = (section.get("_target_", "") for section in _sections(config))
    return sorted({target for target in targets if target and not target.startswith(_OURS)})


def foreign_class(section: Any, trusted: Trusted) -> str | None:
    """The class that a section names, if it is not of this project.

    Raises:
        WeightsError: it is not trusted.
    """
    target = section.get("_target_") if isinstance(section, Mapping) else None
    if not target or target.startswith(_OURS):
        return None
    if trusted is True or (trusted and target in trusted):
        return str(target)
    raise WeightsError(
        f"the model is made of {target}, a class from outside glc_train: if you know whose code it is, name it as "
        f"trusted=[{target}], for glc as --trusted {target}"
    )


def settings_of(kind: str, section: Any) -> dict[str, Any]:
    """The settings of one section, without its `_target_`, which names a class of ours.

    Args:
        kind: "autoencoder", "transform", "video transform" or "gop".
        section: of the configuration.

    Raises:
        WeightsError: it is no section, has an unknown setting, or one out of bounds.
    """
    name = kind.removeprefix("video ")
    if not isinstance(section, Mapping):
        raise WeightsError(f"the model's configuration has no section {name}")
    rules = _SECTIONS[kind]
    for key, value in section.items():
        if key == "_target_":
            continue
        if key not in rules:
            raise WeightsError(f"model.{name} has no setting {reprlib.repr(key)}")
        if not rules[key].fits(value):
            raise WeightsError(f"model.{name}.{key} must be {rules[key].what}, not {reprlib.repr(value)}")
    settings = {key: value for key, value in section.items() if key != "_target_"}
    factor = settings.get("patch", 1) * 2 ** (len(settings.get("widths", ())) - 1)
    if factor > MAX_FACTOR:
        raise WeightsError(f"model.{name}: patch and widths reduce a side by {factor}, more than {MAX_FACTOR}")
    return settings


def checked(config: Any, trusted: Trusted = False) -> Config:
    """The configuration of a codec as it was given, if a codec may have it.

    But for the settings of trusted classes it then holds numbers, booleans, lists and the few words that settings may
    have; a `_target_` is a dotted name.

    Raises:
        WeightsError: as `settings_of`, and where a class is named that is neither ours nor trusted.
    """
    if not isinstance(config, dict):
        raise WeightsError(f"the model's configuration is no table of sections: {reprlib.repr(config)}")
    video = "image" in config
    known = {"image", "transform", "own_autoencoder", "gop"} if video else {"autoencoder", "transform"}
    if unknown := sorted(config.keys() - known - {"_target_"}):
        raise WeightsError(f"the model's configuration has no section {reprlib.repr(unknown[0])}")
    for section in (config, *config.values()):
        target = section.get("_target_", "") if isinstance(section, dict) else ""
        if not (isinstance(target, str) and re.fullmatch(r"[\w.]*", target)):
            raise WeightsError(f"the model's configuration names no class by {reprlib.repr(target)}")
    if video:
        if not isinstance(config["image"], dict) or "image" in config["image"]:
            raise WeightsError("the model's configuration has no section image of an image codec")
        checked(config["image"], trusted)
        if not _FLAG.fits(own := config.get("own_autoencoder", False)):
            raise WeightsError(f"model.own_autoencoder must be {_FLAG.what}, not {reprlib.repr(own)}")
        kinds = {"gop": config.get("gop", {}), "video transform": config.get("transform")}
    else:
        kinds = {"autoencoder": config.get("autoencoder")}
        if "transform" not in config or config["transform"] is not None:
            kinds["transform"] = config.get("transform")
    foreign_class(config, trusted)
    for kind, section in kinds.items():
        if foreign_class(section, trusted) is None:
            settings_of(kind, section)
    return config
