"""The video transform codec: latent ⇄ y, tokens ⇄ symbols, given the previous decoded latent; tensors only."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glc_train.layers import Grid, VectorQuantiser, block_c, conv3x3
from glc_train.transform.hyper_prior import categorical_bits
from glc_train.transform.image import Encoded, TransformOutput
from glc_train.transform.modules import GainTransform, PriorParameters, split_parameters
from glc_train.transform.partition import checkerboard_masks
from glc_train.transform.passes import QuantiseStep, Rounding, SymbolStep, run_passes
from glc_train.transform.video_modules import (
    CheckerboardContext,
    ContextModel,
    HyperTokenizer,
    InverseTokenizer,
    PriorFusion,
    WeightGenerator,
)

MAX_TOKENS = 4096


@dataclass(frozen=True)
class FrameContext:
    """What the previous decoded latent says about a frame.

    Attributes:
        context: (B, N, h, w) temporal context.
        temporal: (B, C, h, w) temporal parameters of the prior.
        weight_map: (B, K·heads, h, w) in [0, 1], where each token looks.
        chained: whether the previous frame was coded conditionally too.
    """

    context: Tensor
    temporal: Tensor
    weight_map: Tensor
    chained: bool


@dataclass(frozen=True, kw_only=True)
class FrameTransformOutput(TransformOutput):
    """As of an image, but z and z_hat are (B, Cz, K, 1) and z_indices (B, K, 1); and what came from the past."""

    frame_context: FrameContext


class FrameDecoder(nn.Module):
    """Everything from the previous decoded latent and z to the decoded latent: what encoder and decoder compute alike.

    It runs as it stands in training; `layers.exact_copy` of it runs in files.
    """

    def __init__(
        self,
        latent_channels: int,
        channels: int,
        token_channels: int,
        tokens: int,
        heads: int,
        quality_levels: int,
        depth: int,
        refine_depth: int,
        context_depth: int,
        adaptors: int,
    ) -> None:
        super().__init__()
        self.grid = Grid()
        self.context_model = ContextModel(latent_channels, adaptors, refine_depth)
        self.weight_generator = WeightGenerator(channels, tokens, heads)
        self.temporal_prior = conv3x3(latent_channels, channels)
        self.inverse_tokenizer = InverseTokenizer(token_channels, channels, heads)
        self.fusion = PriorFusion(channels)
        self.spatial_context = CheckerboardContext(channels, context_depth)
        self.synthesis = GainTransform(
            channels + latent_channels, latent_channels, quality_levels, depth, gains=(2.0, 0.5), block=block_c
        )

    def context_of(self, previous: Tensor, adaptor: int | None) -> FrameContext:
        """Context from the previous latent_hat (B, N, h, w); `adaptor`: index, or `None` where a chain starts."""
        context = self.context_model(previous, adaptor)
        temporal = self.grid(self.temporal_prior(context))
        return FrameContext(context, temporal, self.weight_generator(temporal), chained=adaptor is not None)

    def parameters_of(self, z_hat: Tensor, given: FrameContext) -> PriorParameters:
        """Parameters of pass 0 from the quantised z (B, Cz, K, 1)."""
        hierarchical = self.inverse_tokenizer(z_hat, given.weight_map)
        return split_parameters(self.grid(self.fusion(hierarchical, given.temporal, given.chained)))

    def decode_y(self, prior: PriorParameters, step: SymbolStep) -> Tensor:
        """Runs the two passes; returns y_hat (B, C, h, w)."""

        def next_parameters(k: int, decoded: Tensor) -> tuple[Tensor, Tensor]:
            scale, mean = self.spatial_context(decoded, prior.raw)
            return self.grid(scale), self.grid(mean)

        channels, height, width = prior.mean.shape[1:]
        masks = checkerboard_masks(channels, height, width, prior.mean.device)
        return run_passes(masks, prior.scale, prior.mean, next_parameters, step) * prior.step

    def forward(self, y_hat: Tensor, given: FrameContext, quality: Tensor) -> Tensor:
        """Synthesis: y_hat (B, C, h, w) and quality (B,) int64 → latent_hat (B, N, h, w)."""
        latent: Tensor = self.grid(self.synthesis(torch.cat([y_hat, given.context], dim=1), quality))
        return latent


class VideoTransform(nn.Module):
    """Conditional transform codec with a spatio-temporal categorical hyper prior (GLC, TCSVT 2025).

    Args:
        latent_channels: N of the auto-encoder; published 256.
        channels: C of y, a multiple of 2 and of `heads`; published 256.
        token_channels: Cz, a multiple of `heads`; published 256.
        tokens: K, indices of each frame, a power of two, since the mean over them must be exact; published 16.
        heads: of the tokens; published 8.
        codes: M, entries of the hyper codebook; published 16,384.
        quality_levels: published 64.
        depth: blocks in each half of analysis and synthesis; published 2.
        refine_depth: blocks of the temporal context; published 4.
        context_depth: blocks of the spatial context model, at least 2; published 3.
        condition_channels: of the context that the tokenizer sees; published 128.
        adaptors: references that the temporal context tells apart; published 3.
    """

    def __init__(
        self,
        latent_channels: int = 256,
        channels: int = 256,
        token_channels: int = 256,
        tokens: int = 16,
        heads: int = 8,
        codes: int = 16384,
        quality_levels: int = 64,
        depth: int = 2,
        refine_depth: int = 4,
        context_depth: int = 3,
        condition_channels: int = 128,
        adaptors: int = 3,
    ) -> None:
        super().__init__()
        if not 1 <= quality_levels <= 64:
            raise ValueError(f"video.quality_levels must be 1 to 64, not {quality_levels}")
        for name, value in (("channels", channels), ("token_channels", token_channels)):
            if value % heads:
                raise ValueError(f"video.{name} must be a multiple of heads={heads}, not {value}")
        if channels % 2:
            raise ValueError(f"video.channels must be even, not {channels}")
        if not 1 <= tokens <= MAX_TOKENS or tokens & (tokens - 1):
            raise ValueError(f"video.tokens must be a power of two from 1 to {MAX_TOKENS}, not {tokens}")
        if context_depth < 2:
            raise ValueError(f"video.context_depth must be at least 2, not {context_depth}")
        self.quality_levels = quality_levels
        self.channels = channels
        self.latent_channels = latent_channels
        self.tokens = tokens
        self.heads = heads
        self.adaptors = adaptors
        self.analysis = GainTransform(
            2 * latent_channels, channels, quality_levels, depth, gains=(0.5, 2.0), block=block_c
        )
        self.tokenizer = HyperTokenizer(channels, latent_channels, condition_channels, token_channels, tokens, heads)
        self.z_quantiser = VectorQuantiser(codes, token_channels)
        self.decoder = FrameDecoder(
            latent_channels, channels, token_channels, tokens, heads, quality_levels, depth, refine_depth,
            context_depth, adaptors,
        )  # fmt: skip
        # How often each index occurred when the prior was fitted; all equal is the published uniform prior.
        self.register_buffer("z_counts", torch.ones(codes, dtype=torch.int64))

    z_counts: Tensor

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"video of {self.tokens} tokens"

    def z_bits(self, indices: Tensor) -> Tensor:
        """Bits of each z index under the fitted categorical prior; same shape as `indices`, float32."""
        return categorical_bits(self.z_counts, indices)

    @property
    def hyper_codebook(self) -> VectorQuantiser:
        """The codebook of z."""
        return self.z_quantiser

    def encode(self, latent: Tensor, given: FrameContext, quality: Tensor) -> Encoded:
        """The encoder's half, of a latent (B, N, h, w) given the frame before, at `quality` (B,) int64."""
        y = self.analysis(torch.cat([latent, given.context], dim=1), quality)
        return Encoded(y, self.tokenizer(y, given.context, given.weight_map))

    def forward(
        self,
        latent: Tensor,
        previous: Tensor,
        adaptor: int | None,
        quality: Tensor,
        rounding: Rounding = "hard",
        noise: Tensor | None = None,
    ) -> FrameTransformOutput:
        """Codes a latent (B, N, h, w) given the previous one.

        Args:
            latent: the latent, of any size.
            previous: (B, N, h, w) decoded latent of the previous frame.
            adaptor: index in [0, adaptors), or `None` where a chain of conditional frames starts.
            quality: (B,) int64, index per picture.
            rounding: see `QuantiseStep`.
            noise: (B, C, h, w) in [-0.5, 0.5) where `rounding` needs it.
        """
        given = self.decoder.context_of(previous, adaptor)
        encoded = self.encode(latent, given, quality)
        quantised = self.z_quantiser(encoded.z)
        prior = self.decoder.parameters_of(quantised.straight_through, given)
        step = QuantiseStep(encoded.y / prior.step, rounding, noise)
        y_hat = self.decoder.decode_y(prior, step)
        bits_y, priced_bits_y = step.bits()
        return FrameTransformOutput(
            y=encoded.y,
            z=encoded.z,
            z_hat=quantised.vectors,
            z_indices=quantised.indices,
            symbols=step.symbols,
            scales=step.scales,
            prior=prior,
            y_hat=y_hat,
            latent_hat=self.decoder(y_hat, given, quality),
            bits_y=bits_y,
            priced_bits_y=priced_bits_y,
            bits_z=self.z_bits(quantised.indices).flatten(1).sum(1),
            frame_context=given,
        )
