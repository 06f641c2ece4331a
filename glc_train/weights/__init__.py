"""Weights on disk → codec: our safetensors package, a Lightning checkpoint, or the published release."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.codecs import Codec, ImageCodec, VideoCodec
from glc_train.files import replacing
from glc_train.precision import resolve
from glc_train.transform import ImageTransform, VideoTransform
from glc_train.weights.build import Unfilled
from glc_train.weights.build import build_any as build_any
from glc_train.weights.build import build_codec as build_codec
from glc_train.weights.build import build_video as build_video
from glc_train.weights.config import foreign_classes as foreign_classes
from glc_train.weights.errors import WeightsError
from glc_train.weights.published import IMAGE_MARKER, PUBLISHED_VIDEO_NAMES, VIDEO_MARKER, rename_published
from glc_train.weights.published import predictor_state as predictor_state
from glc_train.weights.reading import CHECKPOINT_CONFIG as CHECKPOINT_CONFIG
from glc_train.weights.reading import FORMAT, TRAINING_PREFIX, VIDEO_FORMAT, existing, read_package, read_tables
from glc_train.weights.reading import read_config as read_config
from glc_train.weights.reading import read_training_state as read_training_state
from glc_train.weights.strict import compare, load_strictly

PRETRAINED = Path(__file__).parent.parent / "pretrained"  # weights that are installed with the package

_Module = TypeVar("_Module", bound=torch.nn.Module)


def _restored(
    make: Callable[[], _Module],
    state: dict[str, Tensor],
    path: Path,
    optional: Collection[str] = (),
    foreign: Collection[str] = (),
) -> _Module:
    """What `make` builds, with `state` in it; it takes no more memory than the file at `path` can account for.

    Classes of others, which `foreign` names, may look at the values they start from, or use one tensor twice.
    """
    try:
        with torch.device("meta"), Unfilled():
            plan = make()
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    compare(plan, state, str(path), optional)
    if sum(tensor.nbytes for tensor in state.values()) > path.stat().st_size:
        raise WeightsError(f"{path} holds tensors that are larger than the file: it is damaged or forged")
    with nullcontext() if foreign else Unfilled():
        module = make()
    load_strictly(module, state, str(path), optional, keep=not foreign)
    return module


def _published_codec(state: dict[str, Tensor], path: Path) -> ImageCodec:
    if VIDEO_MARKER in state:
        raise WeightsError(f"{path} holds the published GLC video weights: load_video_codec takes them")
    if IMAGE_MARKER not in state:
        raise WeightsError(f"{path} is neither a checkpoint of glc_train nor the published GLC image weights")

    def make() -> ImageCodec:
        return ImageCodec(VQVAE(), ImageTransform())

    return _restored(make, rename_published(state), path, ["transform.z_counts"])


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
    trusted: Collection[str] = (),
) -> Codec:
    """Loads an image codec or a whole video codec, whichever the file holds, for inference.

    Args:
        path: `weights.safetensors` of an export, a Lightning checkpoint (`.ckpt`), or the published `.pth` of the image
            model; None: the weights that are installed with the package.
        device: where the codec runs.
        dtype: arithmetic of the auto-encoder: `torch.float32`, `torch.bfloat16`, or "auto" for whichever of them the
            device computes natively. Every codec reads the files of both.
        trusted: names of your own network classes, as `my_networks.Encoder`, that the file may ask for: building one
            runs its code with the settings that the file gives.

    Raises:
        ValueError: there is no such dtype.
        WeightsError: the file is missing, unreadable, asks for a class that is not trusted, or does not fit; names what
            is missing, unexpected, mis-shaped.
    """
    path = pretrained_weights() if path is None else Path(path)
    dtype = resolve(dtype, device)
    path = existing(path)
    config, state = read_package(path, trusted) if path.suffix == ".safetensors" else read_tables(path, trusted)
    codec: Codec
    if config is None:
        codec = _published_codec(state, path)
    else:
        codec = _restored(lambda: build_any(config, trusted), state, path, foreign=foreign_classes(config))
    codec.compute_dtype = dtype
    return codec.to(device).eval().requires_grad_(False)


def _of_kind(
    kind: type[_Module],
    names: tuple[str, str],
    path: str | os.PathLike[str] | None,
    device: str | torch.device,
    dtype: torch.dtype | str,
    trusted: Collection[str],
) -> _Module:
    codec = load_any_codec(path, device, dtype, trusted)
    if isinstance(codec, kind):
        return codec
    wanted, found = names
    raise WeightsError(
        f"{path or pretrained_weights()} holds {found} codec where {wanted} codec is asked for: give weights of "
        f"{wanted} codec"
    )


def load_codec(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
) -> ImageCodec:
    """`load_any_codec` for an image codec. Raises WeightsError also where the file holds a video codec."""
    return _of_kind(ImageCodec, ("an image", "a video"), path, device, dtype, trusted)


def load_video(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
) -> VideoCodec:
    """`load_any_codec` for a video codec. Raises WeightsError also where the file holds an image codec."""
    return _of_kind(VideoCodec, ("a video", "an image"), path, device, dtype, trusted)


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
    image, path = load_codec(image_path, device, dtype), existing(video_path)
    config, state = read_tables(path)
    if config is not None or VIDEO_MARKER not in state:
        raise WeightsError(f"{path} does not hold the published GLC video weights")
    try:
        codec = VideoCodec(image, VideoTransform(), VQVAE())
    except ValueError as error:
        raise WeightsError(f"{image_path} does not fit the published video model: {error}") from error
    load_published_video(codec, state, str(path))
    return codec.to(device).eval().requires_grad_(False)


def save_codec(
    codec: Codec,
    config: Mapping[str, Any],
    path: str | os.PathLike[str],
    half: bool = False,
    training: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Writes a weights package: tensors and the configuration that builds the codec.

    Args:
        codec: what to write; a video codec with the image codec in it.
        config: what `build_codec` or `build_video` takes, plain values.
        path: `.safetensors` file; written under a temporary name first.
        half: store floating-point tensors in 16 bits.
        training: states of modules that were trained beside the codec, by name: see `read_training_state`.
    """
    path = Path(path)
    beside = {f"{TRAINING_PREFIX}{m}.{n}": t for m, own in (training or {}).items() for n, t in own.items()}
    state = {}
    for name, tensor in (codec.state_dict() | beside).items():
        tensor = tensor.detach().cpu()
        state[name] = (tensor.half() if half and tensor.is_floating_point() else tensor.clone()).contiguous()
    kind = VIDEO_FORMAT if "image" in config else FORMAT
    with replacing(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": kind, "config": json.dumps(config)})
        except SafetensorError as error:  # such as a full disk, which the message says
            raise OSError(f"{path}: cannot be written ({error}); check the folder and the free space.") from error
