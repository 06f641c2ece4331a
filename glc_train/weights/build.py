"""Configuration of a model → codec with fresh weights."""

import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from glc_train.autoencoder import VQVAE
from glc_train.codecs import GOP, Codec, ImageCodec, VideoCodec
from glc_train.transform import ImageTransform, VideoTransform
from glc_train.weights.config import Trusted, foreign_class, settings_of
from glc_train.weights.errors import WeightsError

_Made = TypeVar("_Made")


class Unfilled(TorchFunctionMode):
    """While it is entered, parameters are made without random values, for whoever overwrites all of them at once.

    That saves the time and leaves the generator's state alone. On the `meta` device PyTorch would import its compiler
    to draw values that do not even exist there: seconds and 150 MB.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What `func` returns; its first argument as it is, where `func` would fill a parameter."""
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        module = getattr(func, "__module__", None)
        filling = func in (torch.Tensor.normal_, torch.Tensor.uniform_) or module == torch.nn.init.__name__
        return tensor if filling and isinstance(tensor, torch.nn.Parameter) else func(*args, **kwargs)


def _part(kind: Callable[..., _Made], name: str, section: Any, trusted: Trusted) -> _Made:
    """`kind` with the settings of a section, or the class of another author that the section names."""
    if foreign := foreign_class(section, trusted):
        own: Callable[..., _Made] = _found(foreign)
        return _made(own, name, {key: value for key, value in section.items() if key != "_target_"})
    settings = settings_of(name, section)
    try:
        return kind(**settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # settings that do not go together
        raise WeightsError(f"model.{name.removeprefix('video ')}: {error}") from error


def _found(target: str) -> Any:
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise WeightsError(
            f"_target_={target}: {error}; give MODULE.CLASS, and put its folder on PYTHONPATH if need be"
        ) from error


def _made(kind: Callable[..., _Made], name: str, settings: dict[str, Any]) -> _Made:
    """An object of another author's class, whose own errors keep their traceback."""
    try:
        inspect.signature(kind).bind(**settings)
    except TypeError as error:
        raise WeightsError(f"model.{name.removeprefix('video ')}: {error}") from error
    return kind(**settings)


def _assembled(kind: type[_Made], config: Mapping[str, Any], trusted: Trusted, problem: str, *parts: Any) -> _Made:
    made: type[_Made] = _found(foreign) if (foreign := foreign_class(config, trusted)) else kind
    try:
        return made(*parts)
    except ValueError as error:
        raise WeightsError(f"{problem}: {error}") from error


def build_codec(config: Mapping[str, Any], trusted: Trusted = False) -> ImageCodec:
    """An image codec with fresh weights.

    Args:
        config: as in `conf/model/`; `transform: null` codes indices alone. A `_target_` in it, of a part or of the
            whole, may name a class of your own that takes the place of ours: an auto-encoder or a transform that is
            used as `VQVAE` and `ImageTransform` are, or a codec made of both.
        trusted: whose classes may be built beside ours: True, of a configuration that you wrote; else their names.

    Raises:
        WeightsError: a section is missing, no such network can be built, or it is of a class that is not trusted.
    """
    autoencoder = _part(VQVAE, "autoencoder", config.get("autoencoder"), trusted)
    without = "transform" in config and config["transform"] is None
    transform = None if without else _part(ImageTransform, "transform", config.get("transform"), trusted)
    problem = "the transform does not fit the auto-encoder"
    return _assembled(ImageCodec, config, trusted, problem, autoencoder, transform)


def build_video(config: Mapping[str, Any], trusted: Trusted = False) -> VideoCodec:
    """A video codec with fresh weights.

    Args:
        config: `image`: as for `build_codec`; `transform`: arguments of `VideoTransform`; `own_autoencoder`: whether
            conditional frames have an auto-encoder of their own, like the image codec's; `gop`: arguments of `GOP`.
        trusted: as for `build_codec`.

    Raises:
        WeightsError: as for `build_codec`, and where the parts do not fit each other.
    """
    image = config.get("image")
    if not isinstance(image, Mapping):
        raise WeightsError("the model's configuration has no section image")
    codec = build_codec(image, trusted)
    transform = _part(VideoTransform, "video transform", config.get("transform"), trusted)
    own = _part(VQVAE, "autoencoder", image.get("autoencoder"), trusted) if config.get("own_autoencoder") else None
    gop = _part(GOP, "gop", config.get("gop", {}), trusted)
    problem = "the video model does not fit its image codec"
    return _assembled(VideoCodec, config, trusted, problem, codec, transform, own, gop)


def build_any(config: Mapping[str, Any], trusted: Trusted = False) -> Codec:
    """A codec of either kind with fresh weights, as `build_codec` and `build_video`; `image` marks a video codec."""
    return build_video(config, trusted) if "image" in config else build_codec(config, trusted)
