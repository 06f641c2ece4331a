"""The three stages of GLC-image (CVPR 2024, section 3.4)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from glc_train.codecs import ImageCodec
from glc_train.losses import Adversary
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws
from glc_train.training.latent_stage import CodedFrame, FramePlace, LatentStage, as_vectors, latent_variance
from glc_train.training.pixel_stage import PictureLoss, PixelStage, picture_loss
from glc_train.training.settings import StageSettings
from glc_train.training.stage import Losses, Stage
from glc_train.training.validation import Decoded, decode_at_qualities, decode_indices
from glc_train.transform import ImageTransform, TransformOutput


class AutoencoderStage(Stage):
    """Stage I: encoder, codebook, decoder; L1 + LPIPS + GAN + VQ loss.

    Args:
        codec, codec_config, settings, adversary: see `Stage`.
        picture: pixel losses.
        codebook: how the codebook is trained.
        free_steps: this many first steps go without quantisation; then the codebook gets its entries from the recent
            latents. Encoders that start under a codebook tend to crowd on few entries (Łańcucki et al. 2020).
        quantised_share: probability that a crop is quantised; the decoder sees the latent of the others as it is
            (Mimi, Défossez et al. 2024, section 3.3). Below 1 directions of little variance, which a codebook would
            cut off before the decoder learns what they are for, stay alive.

    Raises:
        ValueError: `quantised_share` is not above 0 and at most 1.
    """

    def __init__(
        self,
        codec: ImageCodec,
        codec_config: Mapping[str, Any],
        settings: StageSettings,
        picture: PictureLoss,
        codebook: CodebookSettings,
        adversary: Adversary | None = None,
        free_steps: int = 0,
        quantised_share: float = 1.0,
    ) -> None:
        super().__init__(codec, codec_config, settings, adversary)
        if not 0 < quantised_share <= 1:
            raise ValueError(f"quantised_share must be above 0 and at most 1, not {quantised_share}")
        self.picture = picture
        self.codebook = codebook
        self.free_steps = free_steps
        self.quantised_share = quantised_share
        self.watch = CodebookWatch(codec.autoencoder.quantiser, codebook)

    def trained_modules(self) -> Iterable[nn.Module]:
        """The auto-encoder."""
        return [self.codec.autoencoder]

    def ways(self, x: Tensor) -> list[Decoded]:
        """From the indices of the codebook alone."""
        return [decode_indices(self.averaged, x)]

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Reconstruction through the codebook."""
        model = self.codec.autoencoder
        latent = model.encoder(x)
        free = self.fresh and self.train_step < self.free_steps
        if self.fresh and not free:
            self.watch.initialise(as_vectors(latent), draws.common)
            self.fresh = False
        quantised = model.quantiser(latent)
        chosen = torch.full((len(x), 1, 1, 1), not free, device=x.device)
        if self.quantised_share < 1:
            drawn = draws.uniform(len(x), 1, 1, 1) < self.quantised_share
            chosen &= drawn.to(x.device, non_blocking=True)
        x_hat = model.decoder(torch.where(chosen, quantised.straight_through, latent))
        picture, terms = picture_loss(self.picture, x_hat, x, draws)
        attracted = torch.where(chosen, latent, quantised.vectors.detach())
        quantiser = self.codebook.loss(attracted, quantised.vectors, model.quantiser)
        terms |= {
            "loss/vq": quantiser.detach(),
            "codebook/used": self.watch.used,
            "codebook/perplexity": self.watch.perplexity,
        }
        return Losses(terms, quantiser, picture, x_hat, x, seen=(quantised.indices, as_vectors(latent)))

    def after_step(self, seen: Sequence[tuple[Tensor, Tensor]], draws: Draws) -> None:
        """Watches the codebook."""
        indices, vectors = (torch.cat(parts) for parts in zip(*seen, strict=True))
        self.watch.update(indices, vectors, draws.common, self.train_step)


class TransformStage(LatentStage):
    """Stage II: the transform codec and the latent code predictor, auto-encoder frozen; loss of `LatentStage`."""

    codec: ImageCodec

    def ways(self, x: Tensor) -> list[Decoded]:
        """Beside every quality as stage I left it."""
        return [decode_indices(self.averaged, x), *super().ways(x)]

    def code_frames(self, x: Tensor, quality: Tensor, draws: Draws) -> list[CodedFrame]:
        """Pictures (B, 3, H, W), which are one frame."""
        latent, transform = self.encode(x), self.codec.transform
        assert isinstance(transform, ImageTransform)
        self.start_codebook(lambda: transform.encode(latent, quality).z, draws)
        noise, z_noise = self.noise(latent, draws), None
        if noise is not None and transform.hyper_codebook is None:
            z_shape = (transform.hyper_channels, *(side // transform.hyper_factor for side in latent.shape[2:]))
            z_noise = draws.uniform(len(latent), *z_shape).to(x.device, non_blocking=True) - 0.5
        out: TransformOutput = transform(latent, quality, self.rounding, noise, z_noise)
        return [self.coded_frame(out, x, latent, quality, latent_variance([latent]), FramePlace(0))]


class JointStage(PixelStage, TransformStage):
    """Stage III: everything, with pixel losses on the decoded picture on top of the losses of stage II.

    Args:
        train_decoder: whether what a decoder uses is trained. Without it encoder, analysis and hyper analysis alone
            learn what the decoder makes the best of: its files can be read with the weights of before, too, as long as
            no prior is fitted (`prior_batches=0`).
        options: as for `PixelStage` and `TransformStage`.

    Raises:
        ValueError: a discriminator without a decoder to train, or nothing to train.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"autoencoder", "transform"})

    def __init__(self, *, train_decoder: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.train_decoder = train_decoder
        if not train_decoder and self.adversary is not None:
            raise ValueError(
                "an adversary balances its loss at the last layer of a decoder that is trained: set adversary=null for "
                "this stage, or train_decoder=true"
            )
        if not train_decoder and not self.train_transform:
            raise ValueError("train_decoder=false and train_transform=false leave nothing to train: set one to true")
        (hyper,) = self._hyper
        if not train_decoder and hyper is not None:  # it is watched, and stays as it is
            self.watch = CodebookWatch(hyper, replace(self.codebook, ema=None, restart=False))

    def trained_modules(self) -> Iterable[nn.Module]:
        """As `PixelStage`, with `train_decoder=false` without what a decoder uses."""
        modules = super().trained_modules()
        if self.train_decoder:
            return modules
        transform = self.codec.transform
        frozen = {id(part) for part in (self.codec.autoencoder.decoder, *transform.decoder_parts)}
        parts = [part for module in modules for part in (module.children() if module is transform else [module])]
        return [part for part in parts if id(part) not in frozen]

    def ways(self, x: Tensor) -> list[Decoded]:
        """At every quality: the codebook of the auto-encoder is not trained."""
        return decode_at_qualities(self.averaged, x)
