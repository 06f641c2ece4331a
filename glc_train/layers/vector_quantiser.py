"""Nearest-neighbour vector quantisation (VQ-VAE, van den Oord et al. 2017)."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantised:
    """A quantised map.

    Attributes:
        vectors: (B, C, h, w) nearest code vectors, with the codebook's gradient.
        straight_through: (B, C, h, w) the same values, with the gradient of the input.
        indices: (B, h, w) int64 in [0, M).
    """

    vectors: Tensor
    straight_through: Tensor
    indices: Tensor


class VectorQuantiser(nn.Module):
    """A codebook of M vectors of C channels; nearest entry in Euclidean distance.

    Args:
        codes: M.
        channels: C.
    """

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.embedding = nn.Embedding(codes, channels)
        nn.init.uniform_(self.embedding.weight, -1.0, 1.0)

    @property
    def codes(self) -> int:
        """M, the number of code vectors."""
        return self.embedding.num_embeddings

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Indices (B, h, w) int64 of the code vectors nearest to x (B, C, h, w)."""
        flat = rearrange(x, "b c h w -> (b h w) c").float()
        codebook = self.embedding.weight.float()
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 distances confuse neighbours
            norm = codebook.pow(2).sum(1)
            # |x|² does not change the order; pieces bound the memory of the distance matrix.
            parts = [torch.addmm(norm, piece, codebook.t(), alpha=-2).argmin(1) for piece in flat.split(4096)]
        return rearrange(torch.cat(parts), "(b h w) -> b h w", b=x.shape[0], h=x.shape[2])

    def lookup(self, indices: Tensor) -> Tensor:
        """Code vectors (B, C, h, w) of indices (B, h, w)."""
        return rearrange(self.embedding(indices), "b h w c -> b c h w")

    def code_vectors(self) -> Tensor:
        """All code vectors (M, C), float32: the same bits on every machine."""
        return self.embedding.weight.detach().float()

    def forward(self, x: Tensor) -> Quantised:
        """Quantises x (B, C, h, w)."""
        indices = self.nearest(x)
        vectors = self.lookup(indices)
        return Quantised(vectors, x + (vectors - x).detach(), indices)
