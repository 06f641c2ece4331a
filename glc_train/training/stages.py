"""The three stages of GLC-image (CVPR 2024, section 3.4)."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.codecs import ImageCodec
from glc_train.layers import Quantised
from glc_train.losses import Adversary, CodePredictor, PerceptualLoss, without_margin
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws
from glc_train.training.latent_stage import Coded, LatentStage, as_vectors, latent_variance, pixel_code_loss
from glc_train.training.stage import Losses, Stage, StageSettings
from glc_train.transform import ImageTransform, TransformOutput

VGG_SIDE = 16  # pixels that the four poolings of VGG16 make one


def psnr_of(x_hat: Tensor, x: Tensor) -> Tensor:
    """PSNR in dB of a batch in [-1, 1], for the log."""
    return -10 * torch.log10(F.mse_loss(x_hat.detach().float().clamp(-1, 1), x.float()) / 4 + 1e-10)


class PictureLoss:
    """l1·L1 + lpips·LPIPS + vgg·LPIPS-VGG + style·style loss, the last two of some pictures.

    Args:
        l1, lpips: weights; 0 switches a term off, here and below.
        net: backbone of LPIPS, "alex" or "vgg".
        shift: LPIPS sees both pictures without their first 0 to `shift` rows and columns, drawn at every step. Its
            AlexNet looks at every fourth pixel, as a decoder with a patch of 4 writes them: with 3, no pattern of that
            period stays unseen.
        vgg: weight of LPIPS with VGG16 beside `net`.
        style: weight of the `style_loss` of VGG16's features.
        vgg_pictures: so many pictures of the batch go through VGG16 (None: all), because it costs six times as much as
            AlexNet.
        margin: VGG16 sees both pictures `without_margin` of so many pixels.
    """

    def __init__(
        self,
        l1: float = 1.0,
        lpips: float = 1.0,
        net: Literal["alex", "vgg"] = "vgg",
        shift: int = 0,
        vgg: float = 0.0,
        style: float = 0.0,
        vgg_pictures: int | None = None,
        margin: int = 0,
    ) -> None:
        self.l1 = l1
        self.lpips = lpips
        self.shift = shift
        self.vgg = vgg
        self.style = style
        self.vgg_pictures = vgg_pictures
        self.margin = margin
        self._lpips = PerceptualLoss(net) if lpips else None
        self._vgg = PerceptualLoss("vgg") if vgg or style else None

    @property
    def networks(self) -> list[nn.Module]:
        """The frozen networks behind the perceptual terms."""
        return [perceptual.network for perceptual in (self._lpips, self._vgg) if perceptual is not None]

    def __call__(self, x_hat: Tensor, x: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss and its terms for x_hat and x, (B, 3, H, W) in [-1, 1]."""
        l1 = F.l1_loss(x_hat.float(), x)
        terms = {"loss/l1": l1.detach(), "psnr": psnr_of(x_hat, x)}
        total = self.l1 * l1
        if self.shift and self.networks:
            top, left = torch.randint(self.shift + 1, (2,), generator=draws.common).tolist()
            x_hat, x = x_hat[..., top:, left:], x[..., top:, left:]
        if self._lpips is not None:
            lpips = self._lpips(x_hat, x)
            terms["loss/lpips"] = lpips.detach()
            total = total + self.lpips * lpips
        if self._vgg is not None:
            x_hat, x = (without_margin(picture[: self.vgg_pictures], self.margin) for picture in (x_hat, x))
            if min(x.shape[-2:]) < VGG_SIDE:
                raise ValueError(
                    f"a picture.margin of {self.margin} leaves {x.shape[-2]}x{x.shape[-1]} pixels, and VGG16 needs "
                    f"{VGG_SIDE}x{VGG_SIDE}: set a smaller margin or a larger crop_size"
                )
            if self.style:
                vgg, style = self._vgg.with_style(x_hat, x)
                terms["loss/style"] = style.detach()
                total = total + self.style * style
            else:
                vgg = self._vgg(x_hat, x)
            terms["loss/lpips_vgg"] = vgg.detach()
            total = total + self.vgg * vgg
        return total, terms


class AutoencoderStage(Stage):
    """Stage I: encoder, codebook, decoder; L1 + LPIPS + GAN + VQ loss.

    Args:
        codec, codec_config, settings, adversary: see `Stage`.
        picture: pixel losses.
        codebook: how the codebook is trained.
        free_steps: so many first steps go without quantisation; then the codebook gets its entries from the recent
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
        self._last: tuple[Quantised, Tensor] | None = None

    def trained_modules(self) -> Iterable[nn.Module]:
        """The auto-encoder."""
        return [self.codec.autoencoder]

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Reconstruction through the codebook."""
        model = self.codec.autoencoder
        latent = model.encoder(x)
        step = int(self.train_step)
        free = self.fresh and step < self.free_steps
        if self.fresh and step == self.free_steps:
            self.watch.initialise(as_vectors(latent), draws.common)
        quantised = model.quantiser(latent)
        chosen = torch.full((len(x), 1, 1, 1), not free, device=x.device)
        if self.quantised_share < 1:
            chosen &= (draws.uniform(len(x), 1, 1, 1) < self.quantised_share).to(x.device)
        x_hat = model.decoder(torch.where(chosen, quantised.straight_through, latent))
        self._last = (quantised, latent)
        picture, terms = self.picture(x_hat, x, draws)
        attracted = torch.where(chosen, latent, quantised.vectors.detach())
        quantiser = self.codebook.loss(attracted, quantised.vectors, model.quantiser)
        terms |= {
            "loss/vq": quantiser.detach(),
            "codebook/used": self.watch.used,
            "codebook/perplexity": self.watch.perplexity,
        }
        return Losses(terms, quantiser, picture, x_hat, x)

    def after_step(self, draws: Draws) -> None:
        """Watches the codebook."""
        assert self._last is not None
        quantised, latent = self._last
        self.watch.update(quantised.indices, as_vectors(latent), draws.common)
        self._last = None


class TransformStage(LatentStage):
    """Stage II: the transform codec and the latent code predictor, auto-encoder frozen; loss of `LatentStage`."""

    codec: ImageCodec

    def code(self, x: Tensor, latent: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor], TransformOutput]:
        """Loss through the latent, its terms, and the coded latent."""
        transform = self.codec.transform
        assert isinstance(transform, ImageTransform)
        quality = draws.balanced(len(x), transform.quality_levels).to(x.device)
        if self.watch is not None and self.starts_codebook:
            with torch.no_grad():
                z = transform.encode(latent, quality).z
            self.watch.initialise(as_vectors(z), draws.common)
        noise, z_noise = self.noise(latent, draws), None
        if noise is not None and transform.hyper_codebook is None:
            z_shape = (transform.hyper_channels, *(side // transform.hyper_factor for side in latent.shape[2:]))
            z_noise = draws.uniform(len(latent), *z_shape).to(x.device) - 0.5
        out: TransformOutput = transform(latent, quality, self.rounding, noise, z_noise)
        pixels = x.shape[-2] * x.shape[-1]
        coded = self.latent_loss(out, latent, quality, pixels, latent_variance([latent]))
        self.keep(Coded(quality, coded.bpp, out.z_indices, as_vectors(out.z)))
        return coded.loss, coded.terms | self.quality_terms(quality, coded.bpp), out

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Latent losses only."""
        loss, terms, _ = self.code(x, self.encode(x), draws)
        return Losses(terms, other=loss)


class JointStage(TransformStage):
    """Stage III: everything, with pixel losses on the decoded picture on top of the losses of stage II.

    Args:
        picture: pixel losses.
        latent: weight of the loss of stage II.
        pixel_predictor: code predictor on the re-encoded reconstruction, or None. pixel_code_prediction: its weight.
        train_encoder: whether the auto-encoder's encoder is trained as well as its decoder. Its codebook stays as stage
            I left it: the codes that code prediction asks for.
        train_transform: whether the transform codec and its code predictor are trained. Without them and the encoder
            the decoder alone learns, to paint better what the same files hold, and a step takes less time.
        options: as for `TransformStage`.

    Raises:
        ValueError: the encoder would be trained under a transform codec that is not.
    """

    def __init__(
        self,
        *,
        picture: PictureLoss,
        latent: float = 1.0,
        pixel_predictor: CodePredictor | None = None,
        pixel_code_prediction: float = 0.0,
        train_encoder: bool = True,
        train_transform: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if train_encoder and not train_transform:
            raise ValueError(
                "train_transform=false needs train_encoder=false: the transform codec fits no other encoder"
            )
        self.picture = picture
        self.latent = latent
        self.pixel_predictor = pixel_predictor
        self.pixel_code_prediction = pixel_code_prediction
        self.train_encoder = train_encoder
        self.train_transform = train_transform
        if not train_transform:
            self.watch = None  # the hyper codebook stays as it is

    def trained_modules(self) -> Iterable[nn.Module]:
        """Everything, or what is left of it."""
        model = self.codec.autoencoder
        parts = [model.encoder, model.decoder] if self.train_encoder else [model.decoder]
        return [
            *parts,
            *(super().trained_modules() if self.train_transform else []),
            *([self.pixel_predictor] if self.pixel_predictor is not None else []),
        ]

    def encode(self, x: Tensor) -> Tensor:
        """Latent of x."""
        if not self.train_encoder:
            return super().encode(x)
        latent: Tensor = self.codec.autoencoder.encoder(x)
        return latent

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Latent losses and pixel losses."""
        latent = self.encode(x)
        with torch.set_grad_enabled(self.train_transform):
            loss, terms, out = self.code(x, latent, draws)
        other = self.latent * loss if self.train_transform else None
        x_hat = self.codec.autoencoder.decoder(out.latent_hat)
        picture, picture_terms = self.picture(x_hat, x, draws)
        terms |= picture_terms
        if self.pixel_predictor is not None:
            entropy, pixel_terms = pixel_code_loss(self.pixel_predictor, self.codec.autoencoder, x_hat, latent)
            other = self.pixel_code_prediction * entropy + (0.0 if other is None else other)
            terms |= pixel_terms
        return Losses(terms, other, picture, x_hat, x)
