"""Weights on disk → codec: our safetensors package, a Lightning checkpoint, or the published release."""

import copy
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.codecs import Codec, ImageCodec, VideoCodec, expand_quality
from glc_train.precision import resolve
from glc_train.transform import ImageTransform, VideoTransform
from glc_train.weights.build import Unfilled
from glc_train.weights.build import build_any as build_any
from glc_train.weights.build import build_codec as build_codec
from glc_train.weights.build import build_video as build_video
from glc_train.weights.config import foreign_classes as foreign_classes
from glc_train.weights.errors import WeightsError
from glc_train.weights.hub import from_pretrained as from_pretrained
from glc_train.weights.hub import push_to_hub as push_to_hub
from glc_train.weights.hub import save_pretrained as save_pretrained
from glc_train.weights.published import IMAGE_MARKER, PUBLISHED_VIDEO_NAMES, VIDEO_MARKER, rename_published
from glc_train.weights.published import predictor_state as predictor_state
from glc_train.weights.reading import CHECKPOINT_CONFIG as CHECKPOINT_CONFIG
from glc_train.weights.reading import TRAINING_PREFIX, read_package, read_tables, write_package
from glc_train.weights.reading import read_config as read_config
from glc_train.weights.reading import read_training_state as read_training_state
from glc_train.weights.store import FORMAT, SUFFIX, VIDEO_FORMAT, Kind, described, missing, stored
from glc_train.weights.store import installed as installed
from glc_train.weights.store import located as located
from glc_train.weights.strict import compare, load_strictly

_Module = TypeVar("_Module", bound=torch.nn.Module)


def _restored(
    make: Callable[[], _Module],
    state: dict[str, Tensor],
    path: Path,
    optional: Collection[str] = (),
    foreign: Collection[str] = (),
) -> _Module:
    """What `make` builds, with `state` in it; of a pickle, no more than the file at `path` can account for.

    Classes of others, which `foreign` names, may look at the values they start from, or use one tensor twice.
    """
    try:
        with torch.device("meta"), Unfilled():
            plan = make()
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    compare(plan, state, str(path), optional)
    if path.suffix != SUFFIX and sum(tensor.nbytes for tensor in state.values()) > path.stat().st_size:
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


def find_codec(
    fingerprint: int,
    kind: Kind,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
    name: str = "The file",
) -> Codec:
    """The codec that wrote a file, out of the weights that this machine has; see `store.folders`.

    Args:
        fingerprint: of the file's header, see `bitstream.read_header`.
        kind: "image" or "video".
        device, dtype, trusted: as of `load_any_codec`.
        name: begins the message, the file's path, say.

    Raises:
        WeightsError: it is not there; says which it is, and where to get it. Or it cannot be loaded.
    """
    return _found(fingerprint, 16, kind, device, dtype, trusted, f"{name} was written with the weights")


def _found(
    number: int, bits: int, kind: Kind, device: str | torch.device, dtype: torch.dtype | str,
    trusted: Collection[str], wanted: str,
) -> Codec:  # fmt: skip
    """The codec whose checksum ends in these bits; `wanted` begins the sentence where there is none."""
    for each in stored():
        if each.kind == kind and each.checksum is not None and each.checksum % 2**bits == number:
            codec = load_any_codec(each.path, device, dtype, trusted)
            if codec.weights_checksum() % 2**bits == number:
                return codec
    raise WeightsError(missing(wanted, number, bits))


def _state_of_image(path: Path, config: Mapping[str, Any], trusted: Collection[str]) -> dict[str, Tensor]:
    """The part of a video codec's state that its file leaves out, where it does: that of an image codec in the store.

    Raises:
        WeightsError: that is not there, or cannot be what it was made for.
    """
    facts = described(path)
    if facts is None or facts.image is None:
        return {}
    image = _found(facts.image, 32, "image", "cpu", torch.float32, trusted, f"{path} needs the image codec")
    assert isinstance(image, ImageCodec)
    levels = (config["image"].get("transform") or {}).get("quality_levels", image.quality_levels)
    if levels != image.quality_levels:
        image = expand_quality(image, levels)
    return {f"image.{name}": tensor for name, tensor in image.state_dict().items()}


def load_any_codec(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
) -> Codec:
    """Loads an image codec or a whole video codec, whichever the file holds, for inference.

    Args:
        path: `weights.safetensors` of an export, a Lightning checkpoint (`.ckpt`), or the published `.pth` of the image
            model; or a NAME or NAME@VERSION that `glc weights list` shows; None: the image codec that is installed.
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
    dtype = resolve(dtype, device)
    path = installed("image") if path is None else located(path)
    config, state = read_package(path, trusted) if path.suffix == SUFFIX else read_tables(path, trusted)
    codec: Codec
    if config is None:
        codec = _published_codec(state, path)
    else:
        if "image" in config and path.suffix == SUFFIX:
            state |= _state_of_image(path, config, trusted)
        codec = _restored(lambda: build_any(config, trusted), state, path, foreign=foreign_classes(config))
    codec.compute_dtype = dtype
    return codec.to(device).eval().requires_grad_(False)


def _of_kind(
    kind: type[_Module],
    wanted: Kind,
    path: str | os.PathLike[str] | None,
    device: str | torch.device,
    dtype: torch.dtype | str,
    trusted: Collection[str],
) -> _Module:
    path = installed(wanted) if path is None else path
    codec = load_any_codec(path, device, dtype, trusted)
    if isinstance(codec, kind):
        return codec
    names = ("a video", "an image") if wanted == "video" else ("an image", "a video")
    raise WeightsError(
        f"{path} holds {names[1]} codec where {names[0]} codec is asked for: give weights of {names[0]} codec"
    )


def load_codec(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
) -> ImageCodec:
    """`load_any_codec` for an image codec. Raises WeightsError also where the file holds a video codec."""
    return _of_kind(ImageCodec, "image", path, device, dtype, trusted)


def load_video(
    path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
) -> VideoCodec:
    """`load_any_codec` for a video codec; None: the installed one. Raises WeightsError also for an image codec."""
    return _of_kind(VideoCodec, "video", path, device, dtype, trusted)


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
    image, path = load_codec(image_path, device, dtype), located(video_path)
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
    name: str | None = None,
    version: int | None = None,
) -> None:
    """Writes a weights package: tensors and the configuration that builds the codec.

    Args:
        codec: what to write; a video codec with the image codec in it.
        config: what `build_codec` or `build_video` takes, plain values.
        path: `.safetensors` file; written under a temporary name first.
        half: store floating-point tensors in 16 bits.
        training: states of modules that were trained beside the codec, by name: see `read_training_state`.
        name: what the weights are called in the store; None: as their file.
        version: of the weights of that name, from 1 up.
    """
    beside = {f"{TRAINING_PREFIX}{m}.{n}": t for m, own in (training or {}).items() for n, t in own.items()}
    state = {}
    for key, tensor in (codec.state_dict() | beside).items():
        tensor = tensor.detach().cpu()
        state[key] = (tensor.half() if half and tensor.is_floating_point() else tensor.clone()).contiguous()
    stored = codec
    if half:  # rounding makes other weights of them
        stored = copy.deepcopy(codec).cpu()
        stored.load_state_dict(state, strict=False)
    facts = {
        "format": VIDEO_FORMAT if "image" in config else FORMAT,
        "config": json.dumps(config),
        "checksum": f"{stored.weights_checksum():08x}",
        "name": name,
        "version": None if version is None else str(version),
    }
    write_package(state, facts, Path(path))
