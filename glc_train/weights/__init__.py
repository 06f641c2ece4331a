"""Weights on disk → codec: our safetensors package, a Lightning checkpoint, or the published release."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.codecs import GOP, ImageCodec, VideoCodec
from glc_train.files import replacing
from glc_train.precision import resolve
from glc_train.transform import ImageTransform, VideoTransform
from glc_train.weights.published import IMAGE_MARKER, PUBLISHED_VIDEO_NAMES, VIDEO_MARKER, rename_published
from glc_train.weights.published import predictor_state as predictor_state

Config = dict[str, Any]
Codec = ImageCodec | VideoCodec
FORMAT = "glc_train.image.1"
VIDEO_FORMAT = "glc_train.video.1"
CHECKPOINT_CONFIG = "glc_config"  # key of the codec's configuration in a Lightning checkpoint
CHECKPOINT_PREFIX = "codec."
PRETRAINED = Path(__file__).parent.parent / "pretrained"  # weights that are installed with the package

_Part = TypeVar("_Part")


class WeightsError(ValueError):
    """A weights file that cannot be used; says which and why."""


def _built(kind: Callable[..., _Part], name: str, section: Any) -> _Part:
    """One of this project's own classes, whatever `_target_` says: files may come from strangers."""
    if not isinstance(section, Mapping):
        raise WeightsError(f"the model's configuration has no section {name}")
    try:
        return kind(**{k: v for k, v in section.items() if k != "_target_"})
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # from strangers: any nonsense
        raise WeightsError(f"model.{name}: {error}") from error


def build_codec(config: Mapping[str, Any]) -> ImageCodec:
    """A codec with fresh weights from a configuration as in `conf/model/`; `transform: null` codes indices alone.

    Raises:
        WeightsError: a section is missing, or no such network can be built.
    """
    autoencoder = _built(VQVAE, "autoencoder", config.get("autoencoder"))
    if "transform" in config and config["transform"] is None:
        return ImageCodec(autoencoder, None)
    return ImageCodec(autoencoder, _built(ImageTransform, "transform", config.get("transform")))


def build_video(config: Mapping[str, Any]) -> VideoCodec:
    """A video codec with fresh weights.

    Args:
        config: `image`: as for `build_codec`; `transform`: arguments of `VideoTransform`; `own_autoencoder`: whether
            conditional frames have an auto-encoder of their own, like the image codec's; `gop`: arguments of `GOP`.

    Raises:
        WeightsError: a section is missing, no such network can be built, or the parts do not fit each other.
    """
    image = config.get("image")
    if not isinstance(image, Mapping):
        raise WeightsError("the model's configuration has no section image")
    codec = build_codec(image)
    transform = _built(VideoTransform, "transform", config.get("transform"))
    own = _built(VQVAE, "autoencoder", image.get("autoencoder")) if config.get("own_autoencoder") else None
    gop = _built(GOP, "gop", config.get("gop", {}))
    try:
        return VideoCodec(codec, transform, own, gop)
    except ValueError as error:
        raise WeightsError(f"the video model does not fit its image codec: {error}") from error


def build_any(config: Mapping[str, Any]) -> Codec:
    """A codec of either kind with fresh weights; the section `image` marks a video codec."""
    return build_video(config) if "image" in config else build_codec(config)


def load_strictly(
    module: torch.nn.Module, state: Mapping[str, Tensor], source: str, optional: Iterable[str] = ()
) -> None:
    """Loads `state` (any float type) into `module`.

    Raises:
        WeightsError: names every missing, unexpected and mis-shaped tensor.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys() - set(optional))
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of wrong shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(f"{source} does not fit the model: " + "; ".join(problems))
    module.load_state_dict(dict(state), strict=False)


def _unwrap(state: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "net", "net_g"):
        while isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path} holds no table of tensors (looked under state_dict, net, net_g)")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a bad file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} is no weights file that can be read safely: {reason}") from error


def read_package(path: Path) -> tuple[Config, dict[str, Tensor]]:
    """Configuration and state of one of our safetensors packages."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error
    found = metadata.get("format")
    if found not in (FORMAT, VIDEO_FORMAT):
        raise WeightsError(f"{path} is no weights package of glc_train (format {found!r}, not {FORMAT!r})")
    return _parse_config(metadata.get("config"), path), state


def _parse_config(text: Any, path: Path) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} holds no readable configuration of its model: {error}") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path} holds no readable configuration of its model: it is a {type(config).__name__}")
    return config


def _published_codec(state: dict[str, Tensor], path: Path) -> ImageCodec:
    codec = ImageCodec(VQVAE(), ImageTransform())
    load_strictly(codec, rename_published(state), str(path), optional=["transform.z_counts"])
    return codec


def _from_table(content: Any, path: Path) -> ImageCodec:
    state = _unwrap(content, path)
    if VIDEO_MARKER in state:
        raise WeightsError(f"{path} holds the published GLC video weights: load_video_codec takes them")
    if IMAGE_MARKER not in state:
        raise WeightsError(f"{path} is neither a checkpoint of glc_train nor the published GLC image weights")
    return _published_codec(state, path)


def read_config(path: str | os.PathLike[str]) -> Config | None:
    """Configuration of the codec in a package or checkpoint of ours; None for the published release, which has none.

    Raises:
        WeightsError: the file is missing or unreadable.
    """
    path = _existing(path)
    if path.suffix == ".safetensors":
        return read_package(path)[0]
    content = _read_pickle(path)
    ours = isinstance(content, dict) and CHECKPOINT_CONFIG in content
    return _parse_config(content[CHECKPOINT_CONFIG], path) if ours else None


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}: give the path of an export, a checkpoint or the published .pth")
    return path


def pretrained_weights() -> Path:
    """The weights that this installation carries.

    Raises:
        WeightsError: there are none, or several.
    """
    found = sorted(PRETRAINED.glob("*.safetensors"))
    if not found:
        raise WeightsError(
            "This installation carries no weights: name an export or checkpoint of train.py, or the published .pth."
        )
    if len(found) > 1:
        raise WeightsError(f"Which weights are meant? Name one of: {', '.join(map(str, found))}")
    return found[0]


def load_any_codec(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Codec:
    """Loads an image codec or a whole video codec, whichever the file holds, for inference; see `load_codec`."""
    path = pretrained_weights() if path is None else Path(path)
    dtype = resolve(dtype, device)
    path = _existing(path)
    codec: Codec
    if path.suffix == ".safetensors":
        config, state = read_package(path)
        codec = build_any(config)
        load_strictly(codec, state, str(path))
    else:
        content = _read_pickle(path)
        if isinstance(content, dict) and CHECKPOINT_CONFIG in content:
            codec = build_any(_parse_config(content[CHECKPOINT_CONFIG], path))
            load_strictly(codec, checkpoint_codec_state(content), str(path))
        else:
            codec = _from_table(content, path)
    (codec.image if isinstance(codec, VideoCodec) else codec).compute_dtype = dtype
    return codec.to(device).eval().requires_grad_(False)


def load_codec(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> ImageCodec:
    """Loads an image codec for inference.

    Args:
        path: `weights.safetensors` of an export, a Lightning checkpoint (`.ckpt`), or the published `.pth`; None: the
            weights that are installed with the package.
        device: where the codec runs.
        dtype: arithmetic of the auto-encoder: `torch.float32`, `torch.bfloat16`, or "auto" for whichever of them the
            device computes natively. Every codec reads the files of both.

    Raises:
        ValueError: there is no such dtype.
        WeightsError: the file is missing, unreadable, holds a video codec, or does not fit; names what is missing,
            unexpected, mis-shaped.
    """
    path = pretrained_weights() if path is None else path
    codec = load_any_codec(path, device, dtype)
    if isinstance(codec, VideoCodec):
        raise WeightsError(
            f"{path} holds a video codec where an image codec is asked for: give weights of an image codec"
        )
    return codec


def load_video(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> VideoCodec:
    """Loads a whole video codec of ours, its image codec included, for inference; arguments as for `load_codec`.

    Raises:
        WeightsError: as for `load_codec`, and where the file holds an image codec.
    """
    path = pretrained_weights() if path is None else path
    codec = load_any_codec(path, device, dtype)
    if isinstance(codec, ImageCodec):
        raise WeightsError(
            f"{path} holds an image codec where a video codec is asked for: give weights of a video codec"
        )
    return codec


def load_published_video(codec: VideoCodec, state: Mapping[str, Tensor], source: str) -> None:
    """Loads the published state of the video model into all of `codec` but its image codec; see `load_strictly`."""
    optional = [name for name in codec.state_dict() if name.startswith("image.") or name == "transform.z_counts"]
    load_strictly(codec, rename_published(state, PUBLISHED_VIDEO_NAMES), source, optional)


def load_video_codec(
    image_path: str | os.PathLike[str],
    video_path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> VideoCodec:
    """Loads the published pair of models for inference.

    Args:
        image_path: codec of intra frames, as `load_codec` takes it.
        video_path: the published `.pth` of the video model.
        device: where the codec runs.
        dtype: arithmetic of the auto-encoders, as for `load_codec`.

    Raises:
        ValueError: there is no such dtype.
        WeightsError: a file is missing, unreadable, or does not fit.
    """
    image, path = load_codec(image_path, device, dtype), Path(video_path)
    state = _unwrap(_read_pickle(path), path)
    if VIDEO_MARKER not in state:
        raise WeightsError(f"{path} does not hold the published GLC video weights")
    try:
        codec = VideoCodec(image, VideoTransform(), VQVAE())
    except ValueError as error:
        raise WeightsError(f"{image_path} does not fit the published video model: {error}") from error
    load_published_video(codec, state, str(path))
    return codec.to(device).eval().requires_grad_(False)


def checkpoint_codec_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The codec's part of a Lightning checkpoint: the averaged (EMA) weights where it has them."""
    state = content.get("state_dict", {})
    ema = {k.removeprefix("ema."): v for k, v in state.items() if k.startswith("ema.")}
    return ema or {k.removeprefix(CHECKPOINT_PREFIX): v for k, v in state.items() if k.startswith(CHECKPOINT_PREFIX)}


def save_codec(codec: Codec, config: Mapping[str, Any], path: str | os.PathLike[str], half: bool = False) -> None:
    """Writes a weights package: tensors and the configuration that builds the codec.

    Args:
        codec: what to write; a video codec with the image codec in it.
        config: what `build_codec` or `build_video` takes, plain values.
        path: `.safetensors` file; written under a temporary name first.
        half: store floating-point tensors in 16 bits.
    """
    path = Path(path)
    state = {}
    for name, tensor in codec.state_dict().items():
        tensor = tensor.detach().cpu()
        state[name] = (tensor.half() if half and tensor.is_floating_point() else tensor.clone()).contiguous()
    kind = VIDEO_FORMAT if isinstance(codec, VideoCodec) else FORMAT
    with replacing(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": kind, "config": json.dumps(config)})
        except SafetensorError as error:  # such as a full disk, which the message says
            raise OSError(f"{path}: cannot be written ({error}); check the folder and the free space.") from error
