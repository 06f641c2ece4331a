"""What the stages over a transform codec share: rate, latent distortion, code prediction, the hyper codebook."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.autoencoder import VQVAE
from glc_train.losses import Adversary, CodePredictor, RateWeights
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws, all_mean, all_sum
from glc_train.training.stage import Stage, StageSettings
from glc_train.transform import Rounding, TransformOutput, VideoTransform
from glc_train.weights import Codec


def as_vectors(x: Tensor) -> Tensor:
    """(B, C, h, w) → (B·h·w, C) without gradient."""
    return rearrange(x.detach(), "b c h w -> (b h w) c")


def shown_levels(levels: int) -> list[int]:
    """Quality indices that logs and panels show: all up to eight, else four from the lowest to the highest."""
    return list(range(levels)) if levels <= 8 else [round(k * (levels - 1) / 3) for k in range(4)]


def latent_variance(latents: Sequence[Tensor]) -> Tensor:
    """Variance of latents (B, N, h, w) over all processes, the unit of distortion: its own scale is arbitrary."""
    return all_mean(torch.cat([latent.detach().float() for latent in latents]).var())


def pixel_code_loss(
    predictor: CodePredictor, autoencoder: VQVAE, x_hat: Tensor, latent: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the codes of `latent` (B, N, h, w) given the re-encoded x_hat (B, 3, H, W); scalar and terms."""
    entropy, accuracy = predictor.loss(autoencoder.encoder(x_hat), autoencoder.quantiser.nearest(latent))
    return entropy, {"loss/pixel_code_prediction": entropy.detach(), "pixel_code_accuracy": accuracy.detach()}


@dataclass(frozen=True)
class LatentLoss:
    """Loss of a coded latent: scalar, its terms for the log, and bits per pixel (B,) without gradient."""

    loss: Tensor
    terms: dict[str, Tensor]
    bpp: Tensor


@dataclass(frozen=True)
class Coded:
    """What a step has coded, without gradient: quality (B,), mean bpp (B,), hyper indices, hyper vectors (n, C)."""

    quality: Tensor
    bpp: Tensor
    indices: Tensor
    vectors: Tensor


class LatentStage(Stage):
    """λ·R + mse·‖l − l_hat‖² + α·CE(predictor(l_hat), indices(x)) + hyper VQ loss.

    R in bits per pixel: y under its Gaussians, z under the categorical prior (a constant while that is uniform).
    Straight-through estimation for z.

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
        codec: Codec,
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
        transform = codec.transform
        hyper = transform.z_quantiser if isinstance(transform, VideoTransform) else transform.hyper_codebook
        self._hyper = (hyper,)  # in a tuple, so that it stays a part of the codec alone
        self.watch = None if hyper is None else CodebookWatch(hyper, codebook)
        self._coded: Coded | None = None

    def trained_modules(self) -> Iterable[nn.Module]:
        """Transform codec and predictor."""
        return [self.codec.transform, *([self.predictor] if self.predictor is not None else [])]

    def encode(self, x: Tensor) -> Tensor:
        """Latent of pictures x (B, 3, H, W) under the frozen auto-encoder."""
        with torch.no_grad():
            latent: Tensor = self.codec.autoencoder.encoder(x)
        return latent

    def noise(self, latent: Tensor, draws: Draws) -> Tensor | None:
        """Noise (B, C, h, w) for y of a latent (B, N, h, w), where the rounding needs it."""
        if self.rounding not in ("noise", "mixed"):
            return None
        shape = (self.codec.transform.channels, *latent.shape[2:])
        return draws.uniform(len(latent), *shape).to(latent.device) - 0.5

    @property
    def starts_codebook(self) -> bool:
        """Whether the hyper codebook gets its first entries at this step."""
        return self.watch is not None and int(self.train_step) == 0 and self.fresh

    def latent_loss(
        self,
        out: TransformOutput,
        latent: Tensor,
        quality: Tensor,
        pixels: int,
        variance: Tensor,
        weight: float = 1.0,
    ) -> LatentLoss:
        """Loss of one latent, of a picture or of a frame.

        Args:
            out: what the transform codec made of it.
            latent: (B, N, h, w), of the original.
            quality: (B,) int64.
            pixels: of the picture.
            variance: see `latent_variance`.
            weight: of the distortion (latent and code prediction).
        """
        bpp_y, bpp_z = out.bits_y / pixels, out.bits_z / pixels
        priced = out.priced_bits_y / pixels + bpp_z
        weighted_rate = (self.rate(quality, int(self.train_step)) * priced).mean()
        distortion = F.mse_loss(out.latent_hat.float(), latent.float()) / variance
        loss = weighted_rate + weight * self.mse * distortion
        terms = {
            "bpp_y": bpp_y.detach().mean(),
            "bpp_z": bpp_z.detach().mean(),
            "loss/rate": weighted_rate.detach(),
            "loss/latent_mse": distortion.detach(),
        }
        (hyper_codebook,) = self._hyper
        if self.watch is not None and hyper_codebook is not None:
            hyper = self.codebook.loss(out.z, out.z_hat, hyper_codebook)
            loss = loss + hyper
            terms |= {
                "loss/hyper_vq": hyper.detach(),
                "codebook/hyper_used": self.watch.used,
                "codebook/hyper_perplexity": self.watch.perplexity,
            }
        if self.predictor is not None:
            indices = self.codec.autoencoder.quantiser.nearest(latent)
            entropy, accuracy = self.predictor.loss(out.latent_hat, indices)
            loss = loss + weight * self.code_prediction * entropy
            terms |= {"loss/code_prediction": entropy.detach(), "code_accuracy": accuracy.detach()}
        return LatentLoss(loss, terms, bpp_y.detach() + bpp_z.detach())

    def quality_terms(self, quality: Tensor, bpp: Tensor) -> dict[str, Tensor]:
        """For the log: λ of the shown qualities, and the mean of bpp (B,) of those among `quality` (B,)."""
        terms = {}
        for q in shown_levels(self.codec.quality_levels):
            if bool((quality == q).any()):
                terms[f"bpp/q{q}"] = bpp[quality == q].mean()
            terms[f"lambda/q{q}"] = self.rate.log_lambda[q].exp()
        return terms

    def keep(self, coded: Coded) -> None:
        """Keeps for `after_step` what this step has coded."""
        self._coded = coded

    def after_step(self, draws: Draws) -> None:
        """Steers λ and watches the hyper codebook."""
        assert self._coded is not None
        coded, self._coded = self._coded, None
        self.rate.steer(*self._mean_bpp(coded.quality, coded.bpp))
        if self.watch is not None:
            self.watch.update(coded.indices, coded.vectors, draws.common)

    def _mean_bpp(self, quality: Tensor, bpp: Tensor) -> tuple[Tensor, Tensor]:
        """Qualities (n,) seen by any rank, and the mean bpp (n,) of each."""
        levels = self.codec.quality_levels
        sums = torch.zeros(2, levels, device=bpp.device)
        sums[0].index_add_(0, quality, bpp.float())
        sums[1].index_add_(0, quality, torch.ones_like(bpp, dtype=torch.float32))
        total, count = all_sum(sums)
        seen = count.nonzero().flatten()
        return seen, total[seen] / count[seen]
