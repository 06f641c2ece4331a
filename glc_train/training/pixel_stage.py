"""What the last stages of pictures and clips share: pixel losses on what is decoded."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.autoencoder import VQVAE
from glc_train.losses import CodePredictor, PerceptualLoss, without_margin
from glc_train.metrics import psnr
from glc_train.training.distributed import Draws
from glc_train.training.latent_stage import LatentStage, mean, pixel_code_loss
from glc_train.training.stage import Losses, TrainingError, mean_terms

VGG_SIDE = 16  # pixels that the four poolings of VGG16 make one


class PictureLoss:
    """l1·L1 + lpips·LPIPS + vgg·LPIPS-VGG + style·style loss, the last two of some pictures.

    Args:
        l1, lpips: weights; 0 switches a term off, here and below.
        net: backbone of LPIPS, "alex" or "vgg".
        shift: LPIPS sees both pictures without `shift` rows and columns, drawn at every step how many of them at the
            top and left. Its AlexNet looks at every fourth pixel, as a decoder with a patch of 4 writes them: with 3,
            no pattern of that period stays unseen.
        vgg: weight of LPIPS with VGG16 beside `net`.
        style: weight of the `style_loss` of VGG16's features.
        vgg_pictures: this many pictures of the batch go through VGG16 (None: all), as it costs six times as much as
            AlexNet.
        margin: VGG16 sees both pictures `without_margin` of this many pixels.
    """

    perceptual: ClassVar[type] = PerceptualLoss
    """Of a backbone's name, what tells LPIPS and style."""

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
        self._lpips = self.perceptual(net) if lpips else None
        self._vgg = self.perceptual("vgg") if vgg or style else None

    @property
    def networks(self) -> list[nn.Module]:
        """The frozen networks behind the perceptual terms."""
        return [perceptual.network for perceptual in (self._lpips, self._vgg) if perceptual is not None]

    def __call__(self, x_hat: Tensor, x: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss and its terms for x_hat and x, (B, 3, H, W) in [-1, 1]."""
        l1 = F.l1_loss(x_hat.float(), x)
        terms = {"loss/l1": l1.detach(), "psnr": psnr((x + 1) / 2, (x_hat.detach().clamp(-1, 1) + 1) / 2).mean()}
        total = self.l1 * l1
        if self.shift and self.networks:
            top, left = torch.randint(self.shift + 1, (2,), generator=draws.common).tolist()
            height, width = (side - self.shift for side in x.shape[-2:])  # the same at every step, as GPUs like it
            window = (..., slice(top, top + height), slice(left, left + width))
            x_hat, x = x_hat[window], x[window]
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


def picture_loss(loss: Any, x_hat: Tensor, x: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
    """Scalar and terms for the log of `loss`, a `PictureLoss` or the user's own; a scalar alone is its one term.

    Raises:
        TrainingError: it gives something else.
    """
    found = loss(x_hat, x, draws)
    total, terms = (found, {"loss/picture": found.detach()}) if isinstance(found, Tensor) else found
    if total.numel() != 1:
        raise TrainingError(
            f"{type(loss).__name__} gives a loss of shape {tuple(total.shape)}: give a scalar, such as its mean"
        )
    return total.squeeze(), dict(terms)


class PixelStage(LatentStage):
    """Pixel losses on the decoded frames on top of the losses of the latent; comes before another `LatentStage`.

    Args:
        picture: pixel losses.
        latent: weight of the losses of the latent.
        pixel_predictor: code predictor on the re-encoded reconstruction, or None.
        pixel_code_prediction: its weight.
        train_encoder: whether the auto-encoder's encoder is trained as well as its decoder. Its codebook stays as it
            is: the codes that code prediction asks for.
        train_transform: whether the transform codec and its code predictor are trained. Without them and the encoder
            the decoder alone learns, to paint better what the same files hold, and a step takes less time.
        options: of the other stage.

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
        self.picture = picture
        self.latent = latent
        self.pixel_predictor = pixel_predictor
        self.pixel_code_prediction = pixel_code_prediction
        self.train_encoder = train_encoder and self.own_autoencoder is not None
        self.train_transform = train_transform
        if self.train_encoder and not train_transform:
            raise ValueError(
                "train_transform=false needs train_encoder=false: the transform codec fits no other encoder"
            )
        if not train_transform:
            self.watch = None  # the hyper codebook stays as it is

    @property
    def own_autoencoder(self) -> VQVAE | None:
        """The auto-encoder that may be trained; None: that of the codec stays as it is."""
        return self.codec.autoencoder

    def trained_modules(self) -> Iterable[nn.Module]:
        """Everything, or what is left of it."""
        model = self.own_autoencoder
        return [
            *([model.encoder] if model is not None and self.train_encoder else []),
            *([model.decoder] if model is not None else []),
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
        """Latent losses and pixel losses of pictures or clips."""
        with torch.set_grad_enabled(self.train_transform):
            frames, terms, seen = self.code(x, draws)
        other = self.latent * mean(frame.loss for frame in frames) if self.train_transform else None
        decoded = [self._decode(frame.latent_hat) for frame in frames]
        x_hat = torch.cat(decoded)
        pictures = []
        # Through the joined tensor, so that the pictures' gradient can be taken there.
        for frame, picture in zip(frames, x_hat.chunk(len(frames)), strict=True):
            loss, frame_terms = picture_loss(self.picture, picture, frame.x, draws)
            pictures.append((frame.place.weight * loss, frame_terms))
        terms |= mean_terms([each for _, each in pictures])
        if self.pixel_predictor is not None:
            model, coded = self.codec.autoencoder, []
            for frame, picture in zip(frames, decoded, strict=True):
                arguments = (self.pixel_predictor, model, picture, frame.latent)
                entropy, frame_terms = self.memory_saving(pixel_code_loss, *arguments)
                coded.append((frame.place.weight * entropy, frame_terms))
            predicted = self.pixel_code_prediction * mean(entropy for entropy, _ in coded)
            other = predicted if other is None else other + predicted
            terms |= mean_terms([each for _, each in coded])
        x = torch.cat([frame.x for frame in frames])
        return Losses(terms, other, mean(loss for loss, _ in pictures), x_hat, x, seen)

    def _decode(self, latent: Tensor) -> Tensor:
        """Pictures (B, 3, H, W)."""
        decoder = self.codec.autoencoder.decoder
        if self.adversary is None or not self.saves_memory:
            return self.memory_saving(decoder, latent)
        # The adaptive weight is measured at the last layer, twice, and must not decode for it.
        return decoder.paint(self.memory_saving(decoder.features, latent))
