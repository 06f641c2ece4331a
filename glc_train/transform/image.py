"""The image transform codec: latent ⇄ y, z ⇄ symbols, tensors only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from glc_train.layers import Grid, VectorQuantiser, by_rows
from glc_train.transform.hyper_prior import FactorisedGaussian, categorical_bits
from glc_train.transform.modules import (
    FourPartContext,
    GainTransform,
    HyperSynthesis,
    PriorParameters,
    hyper_analysis,
    split_parameters,
)
from glc_train.transform.partition import four_part_masks
from glc_train.transform.passes import QuantiseStep, Rounding, SymbolStep, ZeroStep, run_passes

Context = Literal["four_part", "none"]
HyperPrior = Literal["categorical", "factorised"]


@dataclass(frozen=True)
class Encoded:
    """What the encoder's half makes of a latent: y and z as of `TransformOutput`, before any rounding."""

    y: Tensor
    z: Tensor


@dataclass(frozen=True)
class TransformOutput:
    """What the transform codec makes of a latent.

    Attributes:
        y: (B, C, h, w).
        z: (B, Cz, h/4, w/4).
        z_hat: its nearest codes, with the codebook's gradient.
        z_indices: (B, h/4, w/4) int64; with the factorised prior the integers (B, Cz, h/4, w/4) of z.
        symbols, scales: (B, C, h, w), in place: every element from its own pass.
        prior: parameters of pass 0.
        y_hat: (B, C, h, w) after multiplying by the step.
        latent_hat: (B, N, h, w).
        bits_y, bits_z: (B,) estimated bits of each picture.
        priced_bits_y: (B,) bits_y as training prices them: those of noisy symbols where the rounding says so.
    """

    y: Tensor
    z: Tensor
    z_hat: Tensor
    z_indices: Tensor
    symbols: Tensor
    scales: Tensor
    prior: PriorParameters
    y_hat: Tensor
    latent_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor
    priced_bits_y: Tensor


class LatentDecoder(nn.Module):
    """Everything from z to the decoded latent: what encoder and decoder must compute alike.

    It runs as it stands in training; `layers.exact_copy` of it runs in files. `context_depth` None leaves the context
    model out: every symbol then has the parameters of pass 0.
    """

    def __init__(
        self,
        latent_channels: int,
        channels: int,
        hyper_channels: int,
        quality_levels: int,
        depth: int,
        context_depth: int | None,
    ) -> None:
        super().__init__()
        self.grid = Grid()
        self.hyper_synthesis = HyperSynthesis(hyper_channels, channels)
        self.context = None if context_depth is None else FourPartContext(channels, context_depth)
        self.synthesis = GainTransform(channels, latent_channels, quality_levels, depth, gains=(2.0, 0.5))

    def parameters_of(self, z_hat: Tensor) -> PriorParameters:
        """Parameters of pass 0 from the quantised z (B, Cz, h/4, w/4)."""
        return split_parameters(self.grid(self.hyper_synthesis(z_hat)))

    def masks(self, mean: Tensor) -> Tensor:
        """Which elements each pass decodes, bool (passes, C, h, w), for `mean` (B, C, h, w)."""
        if self.context is None:
            return torch.ones_like(mean[:1], dtype=torch.bool)
        channels, height, width = mean.shape[1:]
        return four_part_masks(channels, height, width, mean.device)

    def decode_y(self, prior: PriorParameters, step: SymbolStep) -> Tensor:
        """Runs the four passes, or the one where there is no context model; returns y_hat (B, C, h, w)."""
        context, masks = self.context, self.masks(prior.mean)
        if context is None:
            return step(prior.scale, prior.mean, masks[0]) * prior.step
        reduced = context.reduction(prior.raw)

        def next_parameters(k: int, decoded: Tensor) -> tuple[Tensor, Tensor]:
            scale, mean = context(k, decoded, reduced)
            return self.grid(scale), self.grid(mean)

        return run_passes(masks, prior.scale, prior.mean, next_parameters, step) * prior.step

    def forward(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Synthesis: y_hat (B, C, h, w) and quality (B,) int64 → latent_hat (B, N, h, w)."""
        latent: Tensor = self.grid(self.synthesis(y_hat, quality))
        return latent


class ImageTransform(nn.Module):
    """Transform codec with categorical hyper prior (GLC, CVPR 2024, section 3.2), and the variants of its ablations.

    Args:
        latent_channels: N of the auto-encoder; published 256.
        channels: C of y, a multiple of 4 where there is a context model; published 256.
        hyper_channels: Cz; published 256.
        codes: M, entries of the hyper codebook; published 16,384. Without meaning for the factorised prior.
        quality_levels: published 4.
        depth: blocks in each half of analysis and synthesis; published 2.
        context_depth: shared blocks of the context model; published 3.
        context: "four_part", published; "none": all symbols in one pass, from the hyper prior alone.
        hyper_prior: "categorical", published: z is vector-quantised; "factorised": z is rounded to integers, each
            channel under its own Gaussian.
        rdoq: λ of the encoder's rate-distortion optimised quantisation, see `choose_symbols`, one for all qualities or
            one for each; published 0.
    """

    hyper_factor = 4

    def __init__(
        self,
        latent_channels: int = 256,
        channels: int = 256,
        hyper_channels: int = 256,
        codes: int = 16384,
        quality_levels: int = 4,
        depth: int = 2,
        context_depth: int = 3,
        context: Context = "four_part",
        hyper_prior: HyperPrior = "categorical",
        rdoq: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        for name, value, kind in (("context", context, Context), ("hyper_prior", hyper_prior, HyperPrior)):
            if value not in get_args(kind):
                raise ValueError(f"transform.{name} must be {' or '.join(get_args(kind))}, not {value}")
        if not 1 <= quality_levels <= 64:
            raise ValueError(f"transform.quality_levels must be 1 to 64, not {quality_levels}")
        self.rdoq = (rdoq,) * quality_levels if isinstance(rdoq, int | float) else tuple(rdoq)
        if len(self.rdoq) != quality_levels or not all(0 <= value < math.inf for value in self.rdoq):
            raise ValueError(f"transform.rdoq must be a number of at least 0, or {quality_levels} of them, not {rdoq}")
        if channels % 4 and context != "none":
            raise ValueError(f"transform.channels must be a multiple of 4, not {channels}")
        self.quality_levels = quality_levels
        self.latent_channels = latent_channels
        self.channels = channels
        self.hyper_channels = hyper_channels
        self.analysis = GainTransform(latent_channels, channels, quality_levels, depth, gains=(0.5, 2.0))
        self.hyper_analysis = hyper_analysis(channels, hyper_channels)
        categorical = hyper_prior == "categorical"
        self.z_quantiser: VectorQuantiser | FactorisedGaussian = (
            VectorQuantiser(codes, hyper_channels) if categorical else FactorisedGaussian(hyper_channels)
        )
        self.decoder = LatentDecoder(
            latent_channels,
            channels,
            hyper_channels,
            quality_levels,
            depth,
            context_depth if context != "none" else None,
        )
        # How often each index occurred when the prior was fitted; all equal is the published uniform prior. Empty with
        # the factorised prior, which is trained instead.
        self.register_buffer("z_counts", torch.ones(codes if categorical else 0, dtype=torch.int64))

    z_counts: Tensor

    @property
    def hyper_codebook(self) -> VectorQuantiser | None:
        """The codebook of z, None with the factorised prior."""
        return self.z_quantiser if isinstance(self.z_quantiser, VectorQuantiser) else None

    @property
    def decoder_parts(self) -> tuple[nn.Module, ...]:
        """What a decoder needs, apart from `z_counts`."""
        return (self.decoder, self.z_quantiser)

    @property
    def summary(self) -> str:
        """One line for people."""
        codebook = self.hyper_codebook
        hyper = "factorised prior" if codebook is None else f"{codebook.codes} hyper codes"
        return f"{self.channels} channels, {hyper}" + ("" if self.decoder.context else ", no context")

    def encode(self, latent: Tensor, quality: Tensor) -> Encoded:
        """The encoder's half, of a latent (B, N, h, w) at `quality` (B,) int64."""
        y = self.analysis(latent, quality)
        return Encoded(y, by_rows(self.hyper_analysis, 4, y, scale=(1, 4)))

    def z_bits(self, indices: Tensor) -> Tensor:
        """Bits of each z index under the fitted categorical prior; same shape as `indices`, float32."""
        return categorical_bits(self.z_counts, indices)

    def _rdoq_at(self, quality: Tensor) -> float | Tensor:
        return torch.tensor(self.rdoq, device=quality.device)[quality].view(-1, 1, 1, 1) if any(self.rdoq) else 0.0

    def _bits_of_z(self, z: Tensor, indices: Tensor, rounding: Rounding, noise: Tensor | None) -> Tensor:
        if isinstance(self.z_quantiser, VectorQuantiser):
            return self.z_bits(indices)
        if rounding not in ("noise", "mixed"):
            return self.z_quantiser.bits(z)
        if noise is None:
            raise ValueError(f'rounding "{rounding}" with the factorised prior needs z_noise')
        return self.z_quantiser.bits(z, noise)

    def forward(
        self,
        latent: Tensor,
        quality: Tensor,
        rounding: Rounding = "hard",
        noise: Tensor | None = None,
        z_noise: Tensor | None = None,
    ) -> TransformOutput:
        """Codes a latent (B, N, h, w), h and w multiples of 4, at `quality` (B,) int64.

        Args:
            latent: the latent.
            quality: index per picture.
            rounding: see `QuantiseStep`.
            noise: (B, C, h, w) in [-0.5, 0.5) where `rounding` needs it.
            z_noise: (B, Cz, h/4, w/4), the same for the rate of z under the factorised prior.
        """
        encoded = self.encode(latent, quality)
        quantised = self.z_quantiser(encoded.z)
        prior = self.decoder.parameters_of(quantised.straight_through)
        rdoq = self._rdoq_at(quality) if rounding == "hard" else 0.0
        step = QuantiseStep(encoded.y / prior.step, rounding, noise, rdoq)
        y_hat = self.decoder.decode_y(prior, step)
        bits_y, priced_bits_y = step.bits()
        return TransformOutput(
            y=encoded.y,
            z=encoded.z,
            z_hat=quantised.vectors,
            z_indices=quantised.indices,
            symbols=step.symbols,
            scales=step.scales,
            prior=prior,
            y_hat=y_hat,
            latent_hat=self.decoder(y_hat, quality),
            bits_y=bits_y,
            priced_bits_y=priced_bits_y,
            bits_z=self._bits_of_z(encoded.z, quantised.indices, rounding, z_noise).flatten(1).sum(1),
        )

    def preview(self, z_indices: Tensor, quality: Tensor) -> Tensor:
        """Latent (B, N, h, w) from z alone, every symbol of y zero."""
        prior = self.decoder.parameters_of(self.z_quantiser.lookup(z_indices))
        latent: Tensor = self.decoder(self.decoder.decode_y(prior, ZeroStep()), quality)
        return latent
