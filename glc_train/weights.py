"""Weights on disk → codec: our safetensors package, a Lightning checkpoint, or the published release."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.codecs import GOP, ImageCodec, VideoCodec
from glc_train.files import replacing
from glc_train.transform import ImageTransform, VideoTransform

Config = dict[str, Any]
Codec = ImageCodec | VideoCodec
FORMAT = "glc_train.image.1"
VIDEO_FORMAT = "glc_train.video.1"
CHECKPOINT_CONFIG = "glc_config"  # key of the codec's configuration in a Lightning checkpoint
CHECKPOINT_PREFIX = "codec."

# Published name → ours, first match wins. `.block.` of the published blocks is dropped first.
PUBLISHED_NAMES: tuple[tuple[str, str], ...] = (
    (r"^vqgan\.generator\.", "autoencoder.decoder."),
    (r"^vqgan\.quantize\.", "autoencoder.quantiser."),
    (r"^vqgan\.encoder\.", "autoencoder.encoder."),
    (r"^q_enc$", "transform.analysis.gain"),
    (r"^q_dec$", "transform.decoder.synthesis.gain"),
    (r"^enc\.enc_1\.", "transform.analysis.first."),
    (r"^enc\.enc_2\.", "transform.analysis.second."),
    (r"^dec\.dec_1\.", "transform.decoder.synthesis.first."),
    (r"^dec\.dec_2\.", "transform.decoder.synthesis.second."),
    (r"^hyper_enc\.", "transform.hyper_analysis."),
    (r"^z_vq\.", "transform.z_quantiser."),
    (r"^hyper_dec\.([01])\.subpel_conv\.0\.", r"transform.decoder.hyper_synthesis.upsample.\1.main.0."),
    (r"^hyper_dec\.([01])\.upsample\.0\.", r"transform.decoder.hyper_synthesis.upsample.\1.skip.0."),
    (r"^hyper_dec\.([01])\.conv\.", r"transform.decoder.hyper_synthesis.upsample.\1.conv."),
    (r"^hyper_dec\.2\.", "transform.decoder.hyper_synthesis.refine."),
    (r"^y_prior_fusion\.", "transform.decoder.hyper_synthesis.fusion."),
    (r"^y_spatial_prior_reduction\.", "transform.decoder.context.reduction."),
    (r"^y_spatial_prior_adaptor_1\.", "transform.decoder.context.adaptors.0."),
    (r"^y_spatial_prior_adaptor_2\.", "transform.decoder.context.adaptors.1."),
    (r"^y_spatial_prior_adaptor_3\.", "transform.decoder.context.adaptors.2."),
    (r"^y_spatial_prior\.", "transform.decoder.context.shared."),
)
# Training heads of the published file; `predictor_state` gives them to the losses.
PUBLISHED_HEADS = ("code_pred_loss.", "code_pred_pix_loss.")
_MARKER = "vqgan.quantize.embedding.weight"
# The same for the video model, whose file holds an auto-encoder of its own.
PUBLISHED_VIDEO_NAMES: tuple[tuple[str, str], ...] = (
    (r"^vqgan\.generator\.", "own_autoencoder.decoder."),
    (r"^vqgan\.quantize\.", "own_autoencoder.quantiser."),
    (r"^vqgan\.encoder\.", "own_autoencoder.encoder."),
    (r"^y_q_enc$", "transform.analysis.gain"),
    (r"^y_q_dec$", "transform.decoder.synthesis.gain"),
    (r"^encoder\.enc_1\.", "transform.analysis.first."),
    (r"^encoder\.enc_2\.", "transform.analysis.second."),
    (r"^decoder\.dec_1\.", "transform.decoder.synthesis.first."),
    (r"^decoder\.dec_2\.", "transform.decoder.synthesis.second."),
    (r"^feature_adaptor_I\.", "transform.decoder.context_model.intra_adaptor."),
    (r"^feature_adaptor\.", "transform.decoder.context_model.adaptors."),
    (r"^feature_extractor\.context_refine\.", "transform.decoder.context_model.refine."),
    (r"^weight_generator\.conv\.", "transform.decoder.weight_generator.layers."),
    (r"^temporal_prior_encoder\.", "transform.decoder.temporal_prior."),
    (r"^hyper_inv_tokenizer\.", "transform.decoder.inverse_tokenizer."),
    (r"^prior_fusion_adaptor_([01])\.conv1\.", r"transform.decoder.fusion.adaptors.\1.0."),
    (r"^prior_fusion_adaptor_([01])\.conv2\.", r"transform.decoder.fusion.adaptors.\1.1."),
    (r"^y_prior_fusion\.conv\.", "transform.decoder.fusion.fusion."),
    (r"^y_spatial_prior\.conv\.", "transform.decoder.spatial_context.layers."),
    (r"^temporal_cond\.", "transform.tokenizer.condition."),
    (r"^y_temporal_combine\.conv\.", "transform.tokenizer.combine."),
    (r"^hyper_tokenizer\.prior_extraction\.", "transform.tokenizer.extraction."),
    (r"^hyper_tokenizer\.proj\.", "transform.tokenizer.values."),
    (r"^hyper_tokenizer\.", "transform.tokenizer."),
    (r"^z_vq\.", "transform.z_quantiser."),
)
_VIDEO_MARKER = "hyper_inv_tokenizer.proj.weight"
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


def rename_published(
    state: Mapping[str, Tensor], names: Sequence[tuple[str, str]] = PUBLISHED_NAMES
) -> dict[str, Tensor]:
    """Published state → our names, without the training heads. Unknown names stay and are reported as unexpected.

    `names`: `PUBLISHED_NAMES` for the image model, `PUBLISHED_VIDEO_NAMES` for the video model.
    """
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(PUBLISHED_HEADS):
            continue
        ours = name.replace(".block.", ".") if not name.startswith("vqgan.") else name
        for pattern, replacement in names:
            ours, count = re.subn(pattern, replacement, ours)
            if count:
                break
        renamed[ours] = tensor
    return renamed


def predictor_state(state: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """State of one published code predictor ("code_pred_loss" or "code_pred_pix_loss") for `losses.CodePredictor`."""
    return {name.removeprefix(head + "."): t for name, t in state.items() if name.startswith(head + ".")}


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
    if _VIDEO_MARKER in state:
        raise WeightsError(f"{path} holds the published GLC video weights: load_video_codec takes them")
    if _MARKER not in state:
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


def load_any_codec(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Codec:
    """Loads an image codec or a whole video codec, whichever the file holds, for inference; see `load_codec`."""
    path = Path(path)
    if dtype not in (torch.float32, torch.bfloat16):
        raise WeightsError(f"dtype must be torch.float32 or torch.bfloat16, not {dtype}")
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
    path: str | os.PathLike[str], device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ImageCodec:
    """Loads an image codec for inference.

    Args:
        path: `weights.safetensors` of an export, a Lightning checkpoint (`.ckpt`), or the published `.pth`.
        device: where the codec runs.
        dtype: arithmetic of the auto-encoder, `torch.float32` or `torch.bfloat16`. Files do not depend on it.

    Raises:
        WeightsError: the file is missing, unreadable, holds a video codec, or does not fit; names what is missing,
            unexpected, mis-shaped.
    """
    codec = load_any_codec(path, device, dtype)
    if isinstance(codec, VideoCodec):
        raise WeightsError(
            f"{path} holds a video codec where an image codec is asked for: give weights of an image codec"
        )
    return codec


def load_video(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> VideoCodec:
    """Loads a whole video codec of ours, its image codec included, for inference; arguments as for `load_codec`.

    Raises:
        WeightsError: as for `load_codec`, and where the file holds an image codec.
    """
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
    dtype: torch.dtype = torch.float32,
) -> VideoCodec:
    """Loads the published pair of models for inference.

    Args:
        image_path: codec of intra frames, as `load_codec` takes it.
        video_path: the published `.pth` of the video model.
        device: where the codec runs.
        dtype: arithmetic of the auto-encoders, `torch.float32` or `torch.bfloat16`.

    Raises:
        WeightsError: a file is missing, unreadable, or does not fit.
    """
    image, path = load_codec(image_path, dtype=dtype), Path(video_path)
    state = _unwrap(_read_pickle(path), path)
    if _VIDEO_MARKER not in state:
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
        save_file(state, temporary, metadata={"format": kind, "config": json.dumps(config)})
