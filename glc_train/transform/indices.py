"""Coding the auto-encoder's own codebook indices: what transform coding is compared with."""

import torch
from torch import Tensor, nn

from glc_train.layers import FiniteScalarQuantiser, VectorQuantiser
from glc_train.transform.hyper_prior import categorical_bits
from glc_train.transform.image import Encoded, TransformOutput
from glc_train.transform.modules import PriorParameters
from glc_train.transform.passes import Rounding


class IndexTransform(nn.Module):
    """Latent ⇄ indices of its nearest codes, under one fitted categorical prior: no y, and one quality.

    It has no parameters. The indices take the place of z, so their bits are `bits_z`, and `bits_y` is 0.

    Args:
        quantiser: of the auto-encoder; used, not owned: it is no part of this module's state.
    """

    hyper_factor = 1
    quality_levels = 1
    hyper_codebook = None  # the one there is, the auto-encoder trains

    def __init__(self, quantiser: VectorQuantiser | FiniteScalarQuantiser) -> None:
        super().__init__()
        self._borrowed = (quantiser,)  # in a tuple, PyTorch does not see a child; copies of the codec keep it shared
        self.register_buffer("z_counts", torch.ones(quantiser.codes, dtype=torch.int64))

    z_counts: Tensor

    @property
    def z_quantiser(self) -> VectorQuantiser | FiniteScalarQuantiser:
        """The auto-encoder's codebook."""
        return self._borrowed[0]

    @property
    def decoder_parts(self) -> tuple[nn.Module, ...]:
        """What a decoder needs, apart from `z_counts`."""
        return (self.z_quantiser,)

    @property
    def summary(self) -> str:
        """One line for people."""
        return "none: indices alone"

    def encode(self, latent: Tensor, quality: Tensor) -> Encoded:
        """The latent (B, N, h, w) for z, and a y without channels; `quality` does not matter."""
        return Encoded(latent.new_zeros(latent.shape[0], 0, *latent.shape[2:]), latent)

    def forward(
        self, latent: Tensor, quality: Tensor, rounding: Rounding = "hard", noise: Tensor | None = None
    ) -> TransformOutput:
        """Quantises a latent (B, N, h, w); `quality`, `rounding` and `noise` do not matter.

        Returns:
            z the latent, z_hat and latent_hat its codes; every field of y has no channels.
        """
        encoded = self.encode(latent, quality)
        quantised, none = self.z_quantiser(encoded.z), encoded.y
        return TransformOutput(
            y=none,
            z=encoded.z,
            z_hat=quantised.vectors,
            z_indices=quantised.indices,
            symbols=none,
            scales=none,
            prior=PriorParameters(none, none, none, none),
            y_hat=none,
            latent_hat=quantised.straight_through,
            bits_y=latent.new_zeros(latent.shape[0]),
            priced_bits_y=latent.new_zeros(latent.shape[0]),
            bits_z=categorical_bits(self.z_counts, quantised.indices).flatten(1).sum(1),
        )
