"""What differs between training an image codec and a video codec; `recipe` runs either."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from glc_train.codecs import ImageCodec, VideoCodec, expand_quality, expand_rdoq
from glc_train.training.stage import TrainingError
from glc_train.training.validation import Decode, decode_clip, decode_in_all_ways
from glc_train.transform import IndexTransform
from glc_train.weights import Codec, build_codec, build_video, load_codec, load_strictly, load_video, read_config

log = logging.getLogger(__name__)
EXPORT = "weights.safetensors"  # what every stage ends with


@dataclass(frozen=True)
class Start:
    """What a stage starts from.

    Attributes:
        codec: with its first weights.
        config: of the codec, see `weights.build_any`.
        fresh: whether the stage's codebook is untrained.
    """

    codec: Codec
    config: dict[str, Any]
    fresh: bool


class Family(ABC):
    """One kind of codec: its stages, how it is built, fed and shown.

    Attributes:
        stages: names of the stages in their order.
    """

    stages: tuple[str, ...]

    @abstractmethod
    def check(self, config: DictConfig) -> None:
        """Refuses what cannot be trained, and fills in what the configuration leaves to a file.

        Raises:
            TrainingError: in one sentence.
        """

    @abstractmethod
    def start(self, config: DictConfig, name: str, weights: Path | None) -> Start:
        """The codec that stage `name` trains, from `weights` of an earlier stage if there are any."""

    @abstractmethod
    def data_options(self, section: DictConfig) -> dict[str, Any]:
        """Arguments of the data module beside those that all stages give it; `section`: of the stage."""

    @abstractmethod
    def decode(self, name: str) -> Decode:
        """How validation shows a codec in stage `name`."""

    @abstractmethod
    def codes_z(self, codec: Codec, name: str) -> bool:
        """Whether the codec has, after stage `name`, hyper indices whose prior can be fitted."""


def plain(section: DictConfig) -> dict[str, Any]:
    """A section of the configuration as plain values."""
    return cast(dict[str, Any], OmegaConf.to_container(section, resolve=True))


class ImageFamily(Family):
    """The three stages of GLC-image (CVPR 2024, section 3.4)."""

    stages = ("autoencoder", "transform", "joint")

    def check(self, config: DictConfig) -> None:
        """Codecs without a transform have stage I only."""
        if config.model.transform is None and list(config.run) != ["autoencoder"]:
            raise TrainingError(
                "model.transform=null codes the auto-encoder's indices alone and has no transform codec to train: "
                "give run=[autoencoder]"
            )

    def start(self, config: DictConfig, name: str, weights: Path | None) -> Start:
        """Stage II starts from weights of stage I, unless they have been through stage II before."""
        model = plain(config.model)
        codec = build_codec(model)
        if weights is None:
            return Start(codec, model, fresh=True)
        self._load(codec, weights, name)
        counts = codec.transform.z_counts
        return Start(codec, model, fresh=name == "transform" and not bool((counts != counts[:1]).any()))

    def _load(self, codec: ImageCodec, weights: Path, stage: str) -> None:
        """Where the transform codec is new, the auto-encoder alone may fit."""
        state, own = load_codec(weights).state_dict(), codec.state_dict()
        found, needed = (
            {name: tensor.shape for name, tensor in tensors.items() if name.startswith("transform.")}
            for tensors in (state, own)
        )
        if stage != "joint" and found != needed:
            log.info("%s holds another transform codec: only its auto-encoder is taken", weights)
            state = {n: t for n, t in state.items() if n.startswith("autoencoder.")}
            state |= {name: own[name] for name in needed}
        load_strictly(codec, state, str(weights))

    def data_options(self, section: DictConfig) -> dict[str, Any]:
        """None."""
        return {}

    def decode(self, name: str) -> Decode:
        """Indices before stage III, which trains encoder and decoder but no codebook; qualities from stage II on."""
        return partial(decode_in_all_ways, indices=name != "joint", transform=name != "autoencoder")

    def codes_z(self, codec: Codec, name: str) -> bool:
        """From stage II on, and index coding at once."""
        return name != "autoencoder" or isinstance(codec.transform, IndexTransform)


class VideoFamily(Family):
    """The stages of GLC-video (TCSVT 2025): latent-only over ever longer clips, then with pixel losses.

    The codec of frame 0 comes from `config.image` and is frozen; its configuration takes the place of `config.model`.
    """

    stages = ("two_frames", "three_frames", "six_frames", "cascade", "pixels")

    def check(self, config: DictConfig) -> None:
        """Finds the image codec, whose configuration must be known before a stage is built."""
        if config.image is not None and config.init_from is not None:
            raise TrainingError(
                f"image={config.image} and init_from={config.init_from}: give one of them, for a video codec holds its "
                "image codec"
            )
        for name in config.run:
            if config.stages[name].frames < 2:
                raise TrainingError(f"stages.{name}.frames must be at least 2, not {config.stages[name].frames}")
        out = Path(config.out)
        exports = [path for path in (out / name / EXPORT for name in self.stages) if path.is_file()]
        source = config.image or config.init_from or (exports[0] if exports else None)
        if source is None:
            raise TrainingError(
                "a video codec starts from a trained image codec: give image=FILE, its weights, or init_from=FILE, "
                "weights of a video codec"
            )
        found = read_config(source)
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

    def start(self, config: DictConfig, name: str, weights: Path | None) -> Start:
        """From a video codec, or from the image codec alone, with a copy of its auto-encoder where one is asked for."""
        model = {"image": plain(config.model), **plain(config.video)}
        codec = build_video(model)
        if weights is None:
            self._load_image(codec, load_codec(config.image), str(config.image))
        else:
            state = load_video(weights).state_dict()
            if codec.own_autoencoder is not None and not any(n.startswith("own_autoencoder.") for n in state):
                state |= _copy_of_autoencoder(state)
            load_strictly(codec, state, str(weights))
        return Start(codec, model, fresh=weights is None)

    def _load_image(self, codec: VideoCodec, image: ImageCodec, source: str) -> None:
        if image.quality_levels != codec.quality_levels:
            image = expand_quality(image, codec.quality_levels)
        state = {f"image.{n}": t for n, t in image.state_dict().items()}
        if codec.own_autoencoder is not None:
            state |= _copy_of_autoencoder(state)
        state |= {n: t for n, t in codec.state_dict().items() if n.startswith("transform.")}
        load_strictly(codec, state, source)

    def data_options(self, section: DictConfig) -> dict[str, Any]:
        """Length of the clips."""
        return {"frames": section.frames}

    def decode(self, name: str) -> Decode:
        """Some qualities."""
        return decode_clip

    def codes_z(self, codec: Codec, name: str) -> bool:
        """From the first stage on."""
        return True


def _copy_of_autoencoder(state: dict[str, Any]) -> dict[str, Any]:
    prefix = "image.autoencoder."
    return {f"own_autoencoder.{n.removeprefix(prefix)}": t for n, t in state.items() if n.startswith(prefix)}


FAMILIES: dict[str, Family] = {"image": ImageFamily(), "video": VideoFamily()}


def family_of(config: DictConfig) -> Family:
    """The family that `config.family` names.

    Raises:
        TrainingError: there is no such one.
    """
    if config.family not in FAMILIES:
        raise TrainingError(f"family={config.family}: choose {' or '.join(FAMILIES)}")
    return FAMILIES[config.family]
