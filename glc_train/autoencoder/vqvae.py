"""The generative auto-encoder: encoder, codebook, decoder."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from glc_train.autoencoder.networks import Decoder, Encoder
from glc_train.layers import FiniteScalarQuantiser, Quantised, VectorQuantiser


@dataclass(frozen=True)
class VQVAEOutput:
    """`latent` (B, N, h, w); `quantised`: the map of its nearest codes; `x_hat` (B, 3, H, W)."""

    latent: Tensor
    quantised: Quantised
    x_hat: Tensor


class VQVAE(nn.Module):
    """Picture ⇄ latent (GLC, CVPR 2024, section 3.1; stage I of training).

    Args:
        widths: channels per level, finest first; published 128, 128, 256, 256, 512.
        latent_channels: N; published 256.
        codes: M, entries of the codebook; published 16,384.
        res_blocks: residual blocks per level of the encoder; published 2.
        decoder_blocks: residual blocks of each level of the decoder, finest first; None, as published: `res_blocks` + 1
            at each. A deep decoder is cheapest at its coarse levels.
        patch: space-to-depth factor of the stem; published 1.
        attention: self-attention at the coarsest level; published true.
        groups: groups of the normalisations; published 32. None: `ChannelNorm`, which treats crops and whole pictures
            alike: for models trained on small crops.
        fsq_levels: if given, finite scalar quantisation with these levels takes the place of the codebook; their
            product must be `codes`.
        window: side of the attention windows when pictures are coded; published 32. Training attends over the map.
    """

    def __init__(
        self,
        widths: Sequence[int] = (128, 128, 256, 256, 512),
        latent_channels: int = 256,
        codes: int = 16384,
        res_blocks: int = 2,
        patch: int = 1,
        attention: bool = True,
        groups: int | None = 32,
        window: int | None = 32,
        fsq_levels: Sequence[int] | None = None,
        decoder_blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        bad = [width for width in widths if groups is not None and width % groups]
        if bad:
            raise ValueError(f"autoencoder.widths {bad} must be multiples of groups={groups}")
        blocks = [res_blocks + 1] * len(widths) if decoder_blocks is None else list(decoder_blocks)
        if len(blocks) != len(widths):
            raise ValueError(
                f"autoencoder.decoder_blocks {blocks} must have an entry for each of the widths {list(widths)}"
            )
        self.factor = patch * 2 ** (len(widths) - 1)
        self.latent_channels = latent_channels
        self.window = window
        self.groups = groups
        self.fsq_levels = tuple(fsq_levels or ())
        self.encoder = Encoder(widths, latent_channels, res_blocks, patch, attention, groups)
        self.quantiser: VectorQuantiser | FiniteScalarQuantiser = VectorQuantiser(codes, latent_channels)
        if fsq_levels is not None:
            self.quantiser = FiniteScalarQuantiser(fsq_levels, latent_channels)
            if self.quantiser.codes != codes:
                raise ValueError(
                    f"autoencoder.codes={codes} must be the product of fsq_levels={list(fsq_levels)}, "
                    f"{self.quantiser.codes}"
                )
        self.decoder = Decoder(widths, latent_channels, blocks, patch, attention, groups)

    def forward(self, x: Tensor) -> VQVAEOutput:
        """Reconstructs x (B, 3, H, W) in [-1, 1] from its nearest codes; attention over the whole map."""
        latent = self.encoder(x)
        quantised = self.quantiser(latent)
        return VQVAEOutput(latent, quantised, self.decoder(quantised.straight_through))

    @property
    def settings(self) -> tuple[int, ...]:
        """What changes decoded pictures and shows in no tensor: `groups`, `window` (0 for None) and `fsq_levels`."""
        return (self.groups or 0, self.window or 0, *self.fsq_levels)

    def checkpoint_activations(self, on: bool = True) -> None:
        """Recomputes the activations of encoder and decoder in the backward pass: less memory, about 30% more time."""
        self.encoder.checkpointing = self.decoder.checkpointing = on
