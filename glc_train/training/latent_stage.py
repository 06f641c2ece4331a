"""What the stages over a transform codec share: rate, latent distortion, code prediction, the hyper codebook."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from glc_train.autoencoder import VQVAE
from glc_train.codecs import shown_levels
from glc_train.losses import Adversary, CodePredictor, RateWeights
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws, all_sum
from glc_train.training.settings import StageSettings
from glc_train.training.stage import Losses, Stage, mean_terms
from glc_train.transform import Rounding, TransformOutput
from glc_train.weights import Codec

_Result = TypeVar("_Result")


def as_vectors(x: Tensor) -> Tensor:
    """(B, C, h, w) → (B·h·w, C) without gradient."""
    return rearrange(x.detach(), "b c h w -> (b h w) c")


def latent_variance(latents: Sequence[Tensor]) -> Tensor:
    """Variance of latents (B, N, h, w) over all processes, the unit of distortion: its own scale is arbitrary."""
    x = torch.cat([latent.detach().float() for latent in latents])
    total, count = all_sum(torch.stack([x.sum(), torch.full_like(x.sum(), x.numel())]))
    squares: Tensor = all_sum((x - total / count).square().sum())
    return squares / (count - 1)


def mean(values: Iterable[Tensor]) -> Tensor:
    """Elementwise mean in float32."""
    return torch.stack([value.float() for value in values]).mean(0)


def pixel_code_loss(
    predictor: CodePredictor, autoencoder: VQVAE, x_hat: Tensor, latent: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the codes of `latent` (B, N, h, w) given the re-encoded x_hat (B, 3, H, W); scalar and terms."""
    entropy, accuracy = predictor.loss(autoencoder.encoder(x_hat), autoencoder.quantiser.nearest(latent))
    return entropy, {"loss/pixel_code_prediction": entropy.detach(), "pixel_code_accuracy": accuracy.detach()}


@dataclass(frozen=True)
class FramePlace:
    """How frame t of a training clip is coded: its adaptor, `None` where a chain starts, and its weight."""

    t: int
    adaptor: int | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class CodedFrame:
    """One frame of a training clip, or a picture.

    Attributes:
        place: how it was coded.
        x, latent: (B, 3, H, W) and (B, N, h, w), original.
        latent_hat: (B, N, h, w), decoded.
        loss, terms: scalar through the latent, and its terms for the log.
        bpp: (B,) bits per pixel, without gradient.
        z, z_indices: hyper vectors (n, Cz) without gradient and their indices.
    """

    place: FramePlace
    x: Tensor
    latent: Tensor
    latent_hat: Tensor
    loss: Tensor
    terms: dict[str, Tensor]
    bpp: Tensor
    z: Tensor
    z_indices: Tensor


@dataclass(frozen=True)
class Coded:
    """What a pass has coded, without gradient: quality (B,), mean bpp (B,), hyper indices, hyper vectors (n, C)."""

    quality: Tensor
    bpp: Tensor
    indices: Tensor
    vectors: Tensor


class LatentStage(Stage):
    """λ·R + mse·‖l − l_hat‖² + α·CE(predictor(l_hat), indices(x)) + hyper VQ loss, the mean over a clip's frames.

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

    needs: ClassVar[frozenset[str]] = frozenset({"autoencoder"})
    codebook_of: ClassVar[str] = "transform"

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
        hyper = codec.transform.hyper_codebook
        self._hyper = (hyper,)  # in a tuple, so that it stays a part of the codec alone
        self.watch = None if hyper is None else CodebookWatch(hyper, codebook)

    def trained_modules(self) -> Iterable[nn.Module]:
        """Transform codec and predictor."""
        return [self.codec.transform, *([self.predictor] if self.predictor is not None else [])]

    def encode(self, x: Tensor) -> Tensor:
        """Latent of pictures x (B, 3, H, W) under the frozen auto-encoder."""
        # Nothing here has a gradient; where none is recorded, layers go picture by picture, which is for large ones.
        with torch.enable_grad():
            latent: Tensor = self.codec.autoencoder.encoder(x)
        return latent.detach()

    def noise(self, latent: Tensor, draws: Draws) -> Tensor | None:
        """Noise (B, C, h, w) for y of a latent (B, N, h, w), where the rounding needs it."""
        if self.rounding not in ("noise", "mixed"):
            return None
        shape = (self.codec.transform.channels, *latent.shape[2:])
        return draws.uniform(len(latent), *shape).to(latent.device, non_blocking=True) - 0.5

    def start_codebook(self, z: Callable[[], Tensor], draws: Draws) -> None:
        """Gives a fresh hyper codebook its first entries, from what `z` gives (B, Cz, h, w)."""
        if self.watch is not None and self.fresh:
            with torch.no_grad():
                self.watch.initialise(as_vectors(z()), draws.common)
            self.fresh = False

    @property
    def saves_memory(self) -> bool:
        """Whether `memory_saving` recomputes."""
        return False

    def memory_saving(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Calls `function`, where the stage `saves_memory` so that its activations are recomputed."""
        if not self.saves_memory:
            return function(*arguments)
        # All randomness is among the arguments.
        result: _Result = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
        return result

    def code_frames(self, x: Tensor, quality: Tensor, draws: Draws) -> list[CodedFrame]:
        """Codes the frames of x that are trained at `quality` (B,); for the stages to define."""
        raise NotImplementedError

    def code(self, x: Tensor, draws: Draws) -> tuple[list[CodedFrame], dict[str, Tensor], Coded]:
        """Codes x at qualities of its own for every sample; what there is to log, and what `after_step` needs."""
        drawn = draws.balanced(len(x), self.codec.quality_levels)
        quality = drawn.to(x.device, non_blocking=True)
        frames = self.code_frames(x, quality, draws)
        bpp = mean(frame.bpp for frame in frames)
        indices, vectors = torch.cat([f.z_indices for f in frames]), torch.cat([f.z for f in frames])
        terms = mean_terms([frame.terms for frame in frames]) | self.quality_terms(drawn.tolist(), quality, bpp)
        return frames, terms, Coded(quality, bpp, indices, vectors)

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """Latent losses only."""
        frames, terms, seen = self.code(x, draws)
        return Losses(terms, other=mean(frame.loss for frame in frames), seen=seen)

    def coded_frame(
        self, out: TransformOutput, x: Tensor, latent: Tensor, quality: Tensor, variance: Tensor, place: FramePlace
    ) -> CodedFrame:
        """A frame and its loss.

        Args:
            out: what the transform codec made of it.
            x, latent, place: see `CodedFrame`; the weight is that of the distortion (latent and code prediction).
            quality: (B,) int64.
            variance: see `latent_variance`.
        """
        pixels, weight = x.shape[-2] * x.shape[-1], place.weight
        bpp_y, bpp_z = out.bits_y / pixels, out.bits_z / pixels
        priced = out.priced_bits_y / pixels + bpp_z
        weighted_rate = (self.rate(quality, self.train_step) * priced).mean()
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
        bpp = bpp_y.detach() + bpp_z.detach()
        return CodedFrame(place, x, latent, out.latent_hat, loss, terms, bpp, as_vectors(out.z), out.z_indices)

    def quality_terms(self, drawn: Sequence[int], quality: Tensor, bpp: Tensor) -> dict[str, Tensor]:
        """For the log: λ of the shown qualities, and the mean of bpp (B,) of those drawn, as `quality` (B,) says."""
        terms = {}
        for q in shown_levels(self.codec.quality_levels):
            if q in drawn:
                terms[f"bpp/q{q}"] = (bpp * (quality == q)).sum() / drawn.count(q)
            terms[f"lambda/q{q}"] = self.rate.log_lambda[q].exp()
        return terms

    def after_step(self, seen: Sequence[Coded], draws: Draws) -> None:
        """Steers λ and watches the hyper codebook."""
        self.rate.steer(self._mean_bpp(torch.cat([c.quality for c in seen]), torch.cat([c.bpp for c in seen])))
        if self.watch is not None:
            indices, vectors = torch.cat([c.indices for c in seen]), torch.cat([c.vectors for c in seen])
            self.watch.update(indices, vectors, draws.common, self.train_step)

    def _mean_bpp(self, quality: Tensor, bpp: Tensor) -> Tensor:
        """Mean of bpp (B,) over all ranks for each quality index (levels,), NaN for those not in `quality` (B,)."""
        sums = torch.zeros(2, self.codec.quality_levels, device=bpp.device)
        sums[0].index_add_(0, quality, bpp.float())
        sums[1].index_add_(0, quality, torch.ones_like(bpp, dtype=torch.float32))
        total, count = all_sum(sums)
        return total / count
