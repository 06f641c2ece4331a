"""The codec that a stage starts from: built from the configuration, with the weights of an earlier stage."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from glc_train.codecs import Codec, VideoCodec, expand_quality, expand_rdoq
from glc_train.training.section import plain
from glc_train.training.stage import TrainingError
from glc_train.weights import build_any, foreign_classes, load_codec, load_strictly, load_video, read_config

log = logging.getLogger(__name__)
_ALL = frozenset({"autoencoder", "transform"})


@dataclass(frozen=True)
class Start:
    """What a stage starts from.

    Attributes:
        codec: with its first weights.
        config: of the codec, see `weights.build_any`.
        untrained: parts of the codec that have had no training.
    """

    codec: Codec
    config: dict[str, Any]
    untrained: frozenset[str]


def find_model(config: DictConfig, others: list[Path]) -> None:
    """Fills in what a video codec takes over from the image codec that it is trained over.

    Args:
        config: the composed configuration; without a section `video` it stays as it is.
        others: weights of earlier stages.

    Raises:
        TrainingError: there is no image codec, or it cannot serve.
    """
    if config.get("video") is None:
        return
    if config.image is not None and config.init_from is not None:
        raise TrainingError(
            f"image={config.image} and init_from={config.init_from}: give one of them, for a video codec holds its "
            "image codec"
        )
    source = config.image or config.init_from or next(iter(others), None)
    if source is None:
        raise TrainingError(
            "a video codec starts from a trained image codec: give image=FILE, its weights, or init_from=FILE, "
            "weights of a video codec"
        )
    found = read_config(source, foreign_classes(codec_config(config)))
    if found is not None and "image" not in found and config.init_from is not None:
        raise TrainingError(f"init_from={source} is an image codec: give image={source} instead")
    # The published release says nothing of its sizes: those of config.model have to fit.
    # What a file says has been checked: no text of a stranger comes to OmegaConf, which resolves `${oc.env:NAME}`.
    model = plain(config.model) if found is None else found.get("image", found)
    if model.get("transform") is None:
        raise TrainingError(f"{source} has no quality levels, which frame 0 needs: give a codec with a transform")
    levels = config.video.transform.quality_levels
    changed: dict[str, Any] = {"quality_levels": levels}
    if isinstance(rdoq := model["transform"].get("rdoq"), list):
        changed["rdoq"] = list(expand_rdoq(rdoq, levels))
    config.model = model | {"transform": model["transform"] | changed}


def codec_config(config: DictConfig) -> dict[str, Any]:
    """Configuration of the codec that is trained, as `weights.build_any` takes it."""
    model = plain(config.model)
    return model if config.get("video") is None else {"image": model, **plain(config.video)}


def start(config: DictConfig, weights: Path | None, needs: frozenset[str]) -> Start:
    """The codec that a stage trains.

    Args:
        config: the composed configuration, after `find_model`.
        weights: of an earlier stage, if there are any.
        needs: parts of the codec that must come from the weights; a transform that is not among them may be new.

    Raises:
        WeightsError: the weights do not fit.
    """
    model = codec_config(config)
    trusted = foreign_classes(model)  # the user's own: `find_model` let no others in
    codec = build_any(model, trusted)
    if isinstance(codec, VideoCodec):
        state, source = _video_state(codec, config, weights, trusted)
        load_strictly(codec, state, source)
        return Start(codec, model, frozenset({"transform"}) if weights is None else frozenset())
    if weights is None:
        return Start(codec, model, _ALL)
    load_strictly(codec, _image_state(codec, weights, needs, trusted), str(weights))
    counts = codec.transform.z_counts
    fitted = bool((counts != counts[:1]).any())
    return Start(codec, model, frozenset() if fitted else frozenset({"transform"}))


def _image_state(codec: Codec, weights: Path, needs: frozenset[str], trusted: list[str]) -> Mapping[str, Tensor]:
    state, own = load_codec(weights, trusted=trusted).state_dict(), codec.state_dict()
    found, wanted = (
        {name: tensor.shape for name, tensor in tensors.items() if name.startswith("transform.")}
        for tensors in (state, own)
    )
    if "transform" in needs or found == wanted:
        return state
    log.info("%s holds another transform codec: only its auto-encoder is taken", weights)
    return {n: t for n, t in state.items() if n.startswith("autoencoder.")} | {name: own[name] for name in wanted}


def _video_state(
    codec: VideoCodec, config: DictConfig, weights: Path | None, trusted: list[str]
) -> tuple[dict[str, Tensor], str]:
    """From a video codec, or from the image codec alone, with a copy of its auto-encoder where one is asked for."""
    if weights is not None:
        state = load_video(weights, trusted=trusted).state_dict()
    else:
        image = load_codec(config.image, trusted=trusted)
        if image.quality_levels != codec.quality_levels:
            image = expand_quality(image, codec.quality_levels)
        state = {f"image.{n}": t for n, t in image.state_dict().items()}
        state |= {n: t for n, t in codec.state_dict().items() if n.startswith("transform.")}
    if codec.own_autoencoder is not None and not any(n.startswith("own_autoencoder.") for n in state):
        prefix = "image.autoencoder."
        state |= {f"own_autoencoder.{n.removeprefix(prefix)}": t for n, t in state.items() if n.startswith(prefix)}
    return state, str(config.image if weights is None else weights)
