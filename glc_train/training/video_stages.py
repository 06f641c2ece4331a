"""The stages of GLC-video (TCSVT 2025): clips, each frame coded given the decoded latent of the one before."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glc_train.codecs import GOP, VideoCodec
from glc_train.losses import CodePredictor
from glc_train.training.distributed import Draws
from glc_train.training.latent_stage import (
    Coded,
    LatentLoss,
    LatentStage,
    as_vectors,
    latent_variance,
    pixel_code_loss,
)
from glc_train.training.stage import Losses
from glc_train.training.stages import PictureLoss
from glc_train.transform import FrameTransformOutput

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ClipSettings:
    """How the frames of a training clip follow each other.

    Attributes:
        cascaded: the gradient runs through all frames; else each frame's latent is detached before it serves the next.
        frame_weights: of the distortion, by frame type (the numbers in the pattern of the GOP); None: all 1. The rate
            is not weighted, so heavier types get more bits (hierarchical quality; DCVC-DC, Li et al. 2023).
        random_phase: the pattern starts at a place drawn at every step, so that short clips train every adaptor: in its
            own order the published one first comes to adaptor 1 at frame 9.
        checkpoint: recompute each frame's activations in the backward pass, so that memory hardly grows with the length
            of the clip; about 30% more time, the same gradients.
    """

    cascaded: bool = False
    frame_weights: Sequence[float] | None = None
    random_phase: bool = False
    checkpoint: bool = False


@dataclass(frozen=True)
class FramePlace:
    """How frame t of a training clip is coded: its adaptor, `None` where a chain starts, and its weight."""

    t: int
    adaptor: int | None
    weight: float


def places_of(gop: GOP, frames: int, settings: ClipSettings, phase: int = 0) -> list[FramePlace]:
    """Places of the conditional frames among `frames`, with the pattern moved on by `phase`."""
    places = []
    for t in range(frames):
        if gop.is_intra(t):
            continue
        kind = gop.pattern[(gop.position(t) + phase) % len(gop.pattern)]
        starts = gop.adaptor(t, not gop.is_intra(t - 1)) is None
        weight = 1.0 if settings.frame_weights is None else float(settings.frame_weights[kind])
        places.append(FramePlace(t, None if starts else kind, weight))
    return places


@dataclass(frozen=True)
class CodedFrame:
    """One conditional frame of a training clip.

    Attributes:
        place: how it was coded.
        x, latent: (B, 3, H, W) and (B, N, h, w), original.
        latent_hat: (B, N, h, w), decoded.
        loss: through the latent.
        z, z_indices: (B, Cz, K, 1) without gradient, (B, K, 1).
    """

    place: FramePlace
    x: Tensor
    latent: Tensor
    latent_hat: Tensor
    loss: LatentLoss
    z: Tensor
    z_indices: Tensor


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.float() for value in values]).mean(0)


def _mean_terms(terms: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: _mean(each[name] for each in terms) for name in terms[0]}


class VideoStage(LatentStage):
    """Latent-only stage over clips; intra frames come from the frozen image codec.

    The loss is that of `LatentStage`, its mean over the conditional frames; every sample has a quality of its own.

    Args:
        clip: how frames follow each other.
        options: as for `LatentStage`.

    Raises:
        ValueError: `clip.frame_weights` leaves out a frame type.
    """

    codec: VideoCodec

    def __init__(self, *, clip: ClipSettings, **options: Any) -> None:
        super().__init__(**options)
        self.clip = clip
        types = max(self.codec.gop.pattern) + 1
        if clip.frame_weights is not None and len(clip.frame_weights) < types:
            raise ValueError(
                f"clip.frame_weights {list(clip.frame_weights)} must give a weight to each of the {types} frame types "
                f"of gop.pattern {list(self.codec.gop.pattern)}"
            )

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Latent losses of clips x (B, T, 3, H, W)."""
        frames, terms = self.code_clip(x, draws)
        return Losses(terms, other=_mean(frame.loss.loss for frame in frames))

    def code_clip(self, clip: Tensor, draws: Draws) -> tuple[list[CodedFrame], dict[str, Tensor]]:
        """Codes the conditional frames of a clip (B, T, 3, H, W); and what there is to log."""
        gop = self.codec.gop
        quality = draws.balanced(len(clip), self.codec.quality_levels).to(clip.device)
        random_phase = self.clip.random_phase
        phase = int(torch.randint(len(gop.pattern), (), generator=draws.common)) if random_phase else 0
        places = places_of(gop, clip.shape[1], self.clip, phase)
        if not places:
            raise ValueError(f"clips of {clip.shape[1]} frames have none to train on: give at least 2 frames")
        latents = {place.t: self._memory_saving(self.encode, clip[:, place.t]) for place in places}
        variance = latent_variance(list(latents.values()))
        frames: list[CodedFrame] = []
        previous: Tensor | None = None
        for place in places:
            if gop.is_intra(place.t - 1) or previous is None:
                previous = self._code_intra(clip[:, place.t - 1], quality)
            if not frames and self.starts_codebook:
                self._start_codebook(latents[place.t], previous, quality, draws)
            noise = self.noise(latents[place.t], draws)
            frame = self._memory_saving(
                self._code_frame, place, clip[:, place.t], latents[place.t], previous, quality, noise, variance
            )
            frames.append(frame)
            previous = frame.latent_hat if self.clip.cascaded else frame.latent_hat.detach()
        bpp = _mean(frame.loss.bpp for frame in frames)
        indices = torch.cat([frame.z_indices for frame in frames])
        vectors = torch.cat([as_vectors(frame.z) for frame in frames])
        self.keep(Coded(quality, bpp, indices, vectors))
        return frames, _mean_terms([frame.loss.terms for frame in frames]) | self.quality_terms(quality, bpp)

    @torch.no_grad()
    def _code_intra(self, x: Tensor, quality: Tensor) -> Tensor:
        """Decoded latent (B, N, h, w) of an intra frame x (B, 3, H, W)."""
        image = self.codec.image
        latent: Tensor = image.transform(image.autoencoder.encoder(x), quality).latent_hat
        return latent

    def _code_frame(
        self,
        place: FramePlace,
        x: Tensor,
        latent: Tensor,
        previous: Tensor,
        quality: Tensor,
        noise: Tensor | None,
        variance: Tensor,
    ) -> CodedFrame:
        """`previous`: (B, N, h, w), decoded latent of the frame before. The rest as in `CodedFrame`."""
        out: FrameTransformOutput = self.codec.transform(latent, previous, place.adaptor, quality, self.rounding, noise)
        pixels = x.shape[-2] * x.shape[-1]
        loss = self.latent_loss(out, latent, quality, pixels, variance, place.weight)
        return CodedFrame(place, x, latent, out.latent_hat, loss, out.z.detach(), out.z_indices)

    @torch.no_grad()
    def _start_codebook(self, latent: Tensor, previous: Tensor, quality: Tensor, draws: Draws) -> None:
        assert self.watch is not None
        out: FrameTransformOutput = self.codec.transform(latent, previous, None, quality)
        self.watch.initialise(as_vectors(out.z), draws.common)

    def _memory_saving(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Calls `function`, with `clip.checkpoint` so that its activations are recomputed."""
        if not self.clip.checkpoint:
            return function(*arguments)
        # All randomness is among the arguments.
        result: _Result = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
        return result


class VideoPixelStage(VideoStage):
    """Last stage: pixel losses on the decoded frames on top of the latent losses, as stage III of the image codec.

    The decoder is trained where it is the video codec's own (`own_autoencoder`); the image codec's stays as it is.

    Args:
        picture: pixel losses.
        latent: weight of the latent losses.
        pixel_predictor: code predictor on the re-encoded reconstruction, or None. pixel_code_prediction: its weight.
        train_encoder: whether an auto-encoder of its own is trained with its encoder.
        options: as for `VideoStage`.

    Raises:
        ValueError: a discriminator without a decoder to train.
    """

    def __init__(
        self,
        *,
        picture: PictureLoss,
        latent: float = 1.0,
        pixel_predictor: CodePredictor | None = None,
        pixel_code_prediction: float = 0.0,
        train_encoder: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if self.adversary is not None and self.codec.own_autoencoder is None:
            raise ValueError(
                "an adversary balances its loss at the last layer of a decoder that is trained: give "
                "video.own_autoencoder=true, or adversary=null for this stage"
            )
        self.picture = picture
        self.latent = latent
        self.pixel_predictor = pixel_predictor
        self.pixel_code_prediction = pixel_code_prediction
        self.train_encoder = train_encoder and self.codec.own_autoencoder is not None

    def trained_modules(self) -> Iterable[nn.Module]:
        """Everything but the image codec."""
        own = self.codec.own_autoencoder
        decoder = [] if own is None else [own.decoder]
        encoder = [own.encoder] if own is not None and self.train_encoder else []
        predictor = [] if self.pixel_predictor is None else [self.pixel_predictor]
        return [*encoder, *decoder, *super().trained_modules(), *predictor]

    def encode(self, x: Tensor) -> Tensor:
        """Latent of pictures x (B, 3, H, W)."""
        if not self.train_encoder:
            return super().encode(x)
        latent: Tensor = self.codec.autoencoder.encoder(x)
        return latent

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Latent losses and pixel losses of clips x (B, T, 3, H, W)."""
        frames, terms = self.code_clip(x, draws)
        model = self.codec.autoencoder
        other = self.latent * _mean(frame.loss.loss for frame in frames)
        decoded = [self._memory_saving(model.decoder, frame.latent_hat) for frame in frames]
        x_hat = torch.cat(decoded)
        pictures, picture_terms = [], []
        # Through the joined tensor, so that the pictures' gradient can be taken there.
        for frame, picture in zip(frames, x_hat.chunk(len(frames)), strict=True):
            loss, frame_terms = self.picture(picture, frame.x, draws)
            pictures.append(frame.place.weight * loss)
            picture_terms.append(frame_terms)
        terms |= _mean_terms(picture_terms)
        if self.pixel_predictor is not None:
            coded = [
                self._memory_saving(pixel_code_loss, self.pixel_predictor, model, picture, frame.latent)
                for frame, picture in zip(frames, decoded, strict=True)
            ]
            other = other + self.pixel_code_prediction * _mean(
                frame.place.weight * entropy for frame, (entropy, _) in zip(frames, coded, strict=True)
            )
            terms |= _mean_terms([each for _, each in coded])
        return Losses(terms, other, _mean(pictures), x_hat, torch.cat([frame.x for frame in frames]))
