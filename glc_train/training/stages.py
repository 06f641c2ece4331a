"""The three stages of GLC-image (CVPR 2024, section 3.4)."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.codecs import ImageCodec
from glc_train.layers import Quantised
from glc_train.losses import Adversary, CodePredictor, PerceptualLoss, RateWeights
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws, all_mean, all_sum
from glc_train.training.stage import Losses, Stage, StageSettings
from glc_train.transform import ImageTransform, Rounding, TransformOutput


def _vectors(x: Tensor) -> Tensor:
    return rearrange(x.detach(), "b c h w -> (b h w) c")


def psnr_of(x_hat: Tensor, x: Tensor) -> Tensor:
    """PSNR in dB of a batch in [-1, 1], for the log."""
    return -10 * torch.log10(F.mse_loss(x_hat.detach().float().clamp(-1, 1), x.float()) / 4 + 1e-10)


class PictureLoss:
    """l1·L1 + lpips·LPIPS.

    Args:
        l1, lpips: weights; 0 switches a term off.
        net: backbone of LPIPS, "alex" or "vgg".
        shift: LPIPS sees both pictures without their first 0 to `shift` rows and columns, drawn at every step. Its
            AlexNet looks at every fourth pixel, as a decoder with a patch of 4 writes them: with 3, no pattern of that
            period stays unseen.
    """

    def __init__(
        self, l1: float = 1.0, lpips: float = 1.0, net: Literal["alex", "vgg"] = "vgg", shift: int = 0
    ) -> None:
        self.l1 = l1
        self.lpips = lpips
        self.shift = shift
        self.perceptual = PerceptualLoss(net) if lpips else None

    def __call__(self, x_hat: Tensor, x: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss and its terms for x_hat and x, (B, 3, H, W) in [-1, 1]."""
        l1 = F.l1_loss(x_hat.float(), x)
        terms = {"loss/l1": l1.detach(), "psnr": psnr_of(x_hat, x)}
        total = self.l1 * l1
        if self.perceptual is not None:
            if self.shift:
                top, left = torch.randint(self.shift + 1, (2,), generator=draws.common).tolist()
                x_hat, x = x_hat[..., top:, left:], x[..., top:, left:]
            lpips = self.perceptual(x_hat, x)
            terms["loss/lpips"] = lpips.detach()
            total = total + self.lpips * lpips
        return total, terms


class AutoencoderStage(Stage):
    """Stage I: encoder, codebook, decoder; L1 + LPIPS + GAN + VQ loss.

    Args:
        codec, codec_config, settings, adversary: see `Stage`.
        picture: pixel losses.
        codebook: how the codebook is trained.
        free_steps: so many first steps go without quantisation; then the codebook gets its entries from the recent
            latents. Encoders that start under a codebook tend to crowd on few entries (Łańcucki et al. 2020).
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
    ) -> None:
        super().__init__(codec, codec_config, settings, adversary)
        self.picture = picture
        self.codebook = codebook
        self.free_steps = free_steps
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
            self.watch.initialise(_vectors(latent), draws.common)
        quantised = model.quantiser(latent)
        x_hat = model.decoder(latent if free else quantised.straight_through)
        self._last = (quantised, latent)
        picture, terms = self.picture(x_hat, x, draws)
        quantiser = self.codebook.loss(latent, quantised.vectors, model.quantiser) * (not free)
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
        self.watch.update(quantised.indices, _vectors(latent), draws.common)
        self._last = None


class TransformStage(Stage):
    """Stage II: the transform codec and the latent code predictor, auto-encoder frozen.

    λ·R + mse·‖l − l_hat‖² + α·CE(predictor(l_hat), indices(x)) + hyper VQ loss. R in bits per pixel: y under its
    Gaussians, z under the categorical prior (a constant while that is uniform). Straight-through estimation for z.

    Args:
        codec, codec_config, settings, adversary: see `Stage`.
        rate: λ of each quality.
        predictor: latent code predictor, or None.
        mse: weight of the latent distortion; measured in units of the latent's variance.
        code_prediction: α.
        codebook: how the hyper codebook is trained.
        rounding: of y, see `transform.QuantiseStep`.
    """

    def __init__(
        self,
        codec: ImageCodec,
        codec_config: Mapping[str, Any],
        settings: StageSettings,
        rate: RateWeights,
        codebook: CodebookSettings,
        predictor: CodePredictor | None = None,
        adversary: Adversary | None = None,
        mse: float = 1.0,
        code_prediction: float = 0.25,
        rounding: Rounding = "ste",
    ) -> None:
        super().__init__(codec, codec_config, settings, adversary)
        self.rate = rate
        self.predictor = predictor
        self.mse = mse
        self.code_prediction = code_prediction
        self.codebook = codebook
        self.rounding = rounding
        hyper_codebook = codec.transform.hyper_codebook
        self.watch = None if hyper_codebook is None else CodebookWatch(hyper_codebook, codebook)
        self._last: tuple[TransformOutput, Tensor, Tensor] | None = None

    def trained_modules(self) -> Iterable[nn.Module]:
        """Transform codec and predictor."""
        return [self.codec.transform, *([self.predictor] if self.predictor is not None else [])]

    def encode(self, x: Tensor) -> Tensor:
        """Latent of x under the frozen auto-encoder."""
        with torch.no_grad():
            latent: Tensor = self.codec.autoencoder.encoder(x)
        return latent

    def code(self, x: Tensor, latent: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor], TransformOutput]:
        """Loss through the latent, its terms, and the coded latent."""
        transform = self.codec.transform
        assert isinstance(transform, ImageTransform)
        levels = transform.quality_levels
        quality = draws.balanced(len(x), levels).to(x.device)
        if self.watch is not None and int(self.train_step) == 0 and self.fresh:
            with torch.no_grad():
                z = transform.hyper_analysis(transform.analysis(latent, quality))
            self.watch.initialise(_vectors(z), draws.common)
        noise = z_noise = None
        if self.rounding in ("noise", "mixed"):
            height, width = latent.shape[2:]
            noise = draws.uniform(len(latent), transform.channels, height, width).to(x.device) - 0.5
            if transform.hyper_codebook is None:
                side = transform.hyper_factor
                z_shape = (transform.hyper_channels, height // side, width // side)
                z_noise = draws.uniform(len(latent), *z_shape).to(x.device) - 0.5
        out: TransformOutput = transform(latent, quality, self.rounding, noise, z_noise)
        pixels = x.shape[-2] * x.shape[-1]
        bpp_y, bpp_z = out.bits_y / pixels, out.bits_z / pixels
        weighted_rate = (self.rate(quality, int(self.train_step)) * (bpp_y + bpp_z)).mean()
        # In units of the variance: the latent's own scale is arbitrary.
        variance = all_mean(latent.detach().float().var())
        distortion = F.mse_loss(out.latent_hat.float(), latent.float()) / variance
        loss = weighted_rate + self.mse * distortion
        terms = {
            "bpp_y": bpp_y.detach().mean(),
            "bpp_z": bpp_z.detach().mean(),
            "loss/rate": weighted_rate.detach(),
            "loss/latent_mse": distortion.detach(),
        }
        if self.watch is not None and transform.hyper_codebook is not None:
            hyper = self.codebook.loss(out.z, out.z_hat, transform.hyper_codebook)
            loss = loss + hyper
            terms |= {
                "loss/hyper_vq": hyper.detach(),
                "codebook/hyper_used": self.watch.used,
                "codebook/hyper_perplexity": self.watch.perplexity,
            }
        for q in range(levels):
            if bool((quality == q).any()):
                terms[f"bpp/q{q}"] = (bpp_y + bpp_z).detach()[quality == q].mean()
            terms[f"lambda/q{q}"] = self.rate.log_lambda[q].exp()
        if self.predictor is not None:
            indices = self.codec.autoencoder.quantiser.nearest(latent)
            entropy, accuracy = self.predictor.loss(out.latent_hat, indices)
            loss = loss + self.code_prediction * entropy
            terms |= {"loss/code_prediction": entropy.detach(), "code_accuracy": accuracy.detach()}
        self._last = (out, quality, bpp_y.detach() + bpp_z.detach())
        return loss, terms, out

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Latent losses only."""
        loss, terms, _ = self.code(x, self.encode(x), draws)
        return Losses(terms, other=loss)

    def after_step(self, draws: Draws) -> None:
        """Steers λ and watches the hyper codebook."""
        assert self._last is not None
        out, quality, bpp = self._last
        self.rate.steer(*self._mean_bpp(quality, bpp))
        if self.watch is not None:
            self.watch.update(out.z_indices, _vectors(out.z), draws.common)
        self._last = None

    def _mean_bpp(self, quality: Tensor, bpp: Tensor) -> tuple[Tensor, Tensor]:
        """Qualities (n,) seen by any rank, and the mean bpp (n,) of each."""
        levels = self.codec.quality_levels
        sums = torch.zeros(2, levels, device=bpp.device)
        sums[0].index_add_(0, quality, bpp.float())
        sums[1].index_add_(0, quality, torch.ones_like(bpp, dtype=torch.float32))
        total, count = all_sum(sums)
        seen = count.nonzero().flatten()
        return seen, total[seen] / count[seen]


class JointStage(TransformStage):
    """Stage III: everything, with pixel losses on the decoded picture on top of the losses of stage II.

    Args:
        picture: pixel losses.
        latent: weight of the loss of stage II.
        pixel_predictor: code predictor on the re-encoded reconstruction, or None. pixel_code_prediction: its weight.
        train_encoder: whether the auto-encoder's encoder and codebook are trained as well as its decoder.
        options: as for `TransformStage`.
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
        self.picture = picture
        self.latent = latent
        self.pixel_predictor = pixel_predictor
        self.pixel_code_prediction = pixel_code_prediction
        self.train_encoder = train_encoder

    def trained_modules(self) -> Iterable[nn.Module]:
        """Everything."""
        model = self.codec.autoencoder
        parts = [model.encoder, model.decoder] if self.train_encoder else [model.decoder]
        return [
            *parts,
            *super().trained_modules(),
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
        other, terms, out = self.code(x, latent, draws)
        other = self.latent * other
        x_hat = self.codec.autoencoder.decoder(out.latent_hat)
        picture, picture_terms = self.picture(x_hat, x, draws)
        terms |= picture_terms
        if self.pixel_predictor is not None:
            indices = self.codec.autoencoder.quantiser.nearest(latent)
            entropy, accuracy = self.pixel_predictor.loss(self.codec.autoencoder.encoder(x_hat), indices)
            other = other + self.pixel_code_prediction * entropy
            terms |= {"loss/pixel_code_prediction": entropy.detach(), "pixel_code_accuracy": accuracy.detach()}
        return Losses(terms, other, picture, x_hat, x)
