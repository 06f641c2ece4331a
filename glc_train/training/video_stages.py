"""The stages of GLC-video (TCSVT 2025): clips, each frame coded given the decoded latent of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.codecs import GOP, VideoCodec
from glc_train.training.distributed import Draws
from glc_train.training.latent_stage import CodedFrame, FramePlace, LatentStage, latent_variance
from glc_train.training.pixel_stage import PixelStage
from glc_train.transform import FrameTransformOutput


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
        lead_in: before the frames that are trained, up to so many of the clip (drawn at every step) are coded as in a
            file and without gradient, so that training meets the errors which long chains add up.
    """

    cascaded: bool = False
    frame_weights: Sequence[float] | None = None
    random_phase: bool = False
    checkpoint: bool = False
    lead_in: int = 0


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


class VideoStage(LatentStage):
    """Latent-only stage over clips; intra frames come from the frozen image codec.

    The loss is that of `LatentStage`, its mean over the conditional frames; every sample has a quality of its own.

    Args:
        clip: how frames follow each other.
        options: as for `LatentStage`.

    Raises:
        ValueError: `clip.frame_weights` leaves out a frame type, or `clip.lead_in` is negative.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})
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
        if clip.lead_in < 0:
            raise ValueError(f"clip.lead_in must be at least 0, not {clip.lead_in}")

    @property
    def saves_memory(self) -> bool:
        """With `clip.checkpoint`."""
        return self.clip.checkpoint

    def code_frames(self, x: Tensor, quality: Tensor, draws: Draws) -> list[CodedFrame]:
        """The conditional frames of clips (B, T, 3, H, W)."""
        gop, most = self.codec.gop, self.clip.lead_in
        random_phase = self.clip.random_phase
        phase = int(torch.randint(len(gop.pattern), (), generator=draws.common)) if random_phase else 0
        lead = int(torch.randint(most + 1, (), generator=draws.common)) if most else 0
        places = places_of(gop, x.shape[1] - most + lead, self.clip, phase)
        if not any(place.t > lead for place in places):
            raise ValueError(
                f"clips of {x.shape[1]} frames have none to train on: give at least {most + 2} frames"
                + (f", 2 more than clip.lead_in={most}" if most else "")
            )
        latents = {place.t: self.memory_saving(self.encode, x[:, place.t]) for place in places if place.t > lead}
        variance = latent_variance(list(latents.values()))
        frames: list[CodedFrame] = []
        previous: Tensor | None = None
        for place in places:
            if gop.is_intra(place.t - 1) or previous is None:
                previous = self._code_intra(x[:, place.t - 1], quality)
            if place.t <= lead:
                previous = self._code_lead_in(place, x[:, place.t], previous, quality)
                continue
            latent = latents[place.t]
            if not frames:
                self.start_codebook(partial(self._first_z, latent, previous, quality), draws)
            noise = self.noise(latent, draws)
            frame = self.memory_saving(
                self._code_frame, place, x[:, place.t], latent, previous, quality, noise, variance
            )
            frames.append(frame)
            previous = frame.latent_hat if self.clip.cascaded else frame.latent_hat.detach()
        return frames

    @torch.no_grad()
    def _code_intra(self, x: Tensor, quality: Tensor) -> Tensor:
        """Decoded latent (B, N, h, w) of an intra frame x (B, 3, H, W)."""
        image = self.codec.image
        latent: Tensor = image.transform(image.autoencoder.encoder(x), quality).latent_hat
        return latent

    @torch.no_grad()
    def _code_lead_in(self, place: FramePlace, x: Tensor, previous: Tensor, quality: Tensor) -> Tensor:
        """Decoded latent (B, N, h, w) of a conditional frame x (B, 3, H, W)."""
        latent = self.codec.autoencoder.encoder(x)
        hat: Tensor = self.codec.transform(latent, previous, place.adaptor, quality).latent_hat
        return hat

    def _first_z(self, latent: Tensor, previous: Tensor, quality: Tensor) -> Tensor:
        """Hyper vectors (B, Cz, K, 1) of the first frame of a chain."""
        z: Tensor = self.codec.transform(latent, previous, None, quality).z
        return z

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
        return self.coded_frame(out, x, latent, quality, variance, place)


class VideoPixelStage(PixelStage, VideoStage):
    """Last stage: pixel losses on the decoded frames on top of the latent losses, as stage III of the image codec.

    The auto-encoder is trained where it is the video codec's own (`own_autoencoder`); the image codec's stays as it is.

    Args:
        options: as for `PixelStage` and `VideoStage`.

    Raises:
        ValueError: a discriminator without a decoder to train, or nothing to train.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.adversary is not None and self.own_autoencoder is None:
            raise ValueError(
                "an adversary balances its loss at the last layer of a decoder that is trained: give "
                "video.own_autoencoder=true, or adversary=null for this stage"
            )
        if not self.train_transform and self.own_autoencoder is None:
            raise ValueError("train_transform=false leaves nothing to train: give video.own_autoencoder=true")

    @property
    def own_autoencoder(self) -> VQVAE | None:
        """That of conditional frames alone."""
        return self.codec.own_autoencoder
