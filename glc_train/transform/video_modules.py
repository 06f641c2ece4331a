"""Modules of the video transform codec (GLC, TCSVT 2025): temporal context, tokens, checkerboard context."""

import torch
from einops import rearrange
from torch import Tensor, nn

from glc_train.layers import Grid, WeightedMean, block_c, conv1x1, conv3x3
from glc_train.transform.modules import start_at_one


class ContextModel(nn.Module):
    """Temporal context of a frame from the previous decoded latent: (B, N, h, w) → (B, N, h, w).

    Args:
        channels: N.
        adaptors: adaptors for references that were coded conditionally; the pattern of the GOP chooses among them.
        depth: blocks C of the refinement.
    """

    def __init__(self, channels: int, adaptors: int, depth: int) -> None:
        super().__init__()
        self.grid = Grid()
        self.intra_adaptor = conv3x3(channels, channels)
        self.adaptors = nn.ModuleList(conv1x1(channels, channels) for _ in range(adaptors))
        self.refine = nn.Sequential(*(block_c(channels) for _ in range(depth)), conv1x1(channels, channels))

    def forward(self, previous: Tensor, adaptor: int | None) -> Tensor:
        """`adaptor`: which one to use, or `None` where the chain of conditional frames starts."""
        adapt = self.intra_adaptor if adaptor is None else self.adaptors[adaptor]
        context: Tensor = self.grid(self.refine(adapt(previous)))
        return context


class WeightGenerator(nn.Module):
    """Where each token looks: temporal parameters (B, C, h, w) → (B, K·heads, h, w) in [0, 1], tokens slowest."""

    def __init__(self, channels: int, tokens: int, heads: int) -> None:
        super().__init__()
        blocks = [layer for _ in range(3) for layer in (block_c(channels), nn.LeakyReLU(0.01))]
        self.layers = nn.Sequential(*blocks, conv1x1(channels, tokens * heads))
        self.squash = nn.Sigmoid()  # a module, for `exact_copy` to replace

    def forward(self, temporal: Tensor) -> Tensor:
        weights: Tensor = self.squash(self.layers(temporal))
        return weights


class HyperTokenizer(nn.Module):
    """y and context → K tokens, whatever the size of the map (encoder only).

    Args:
        channels: C of y.
        context_channels: N of the context.
        condition_channels: what y is joined with, made from the context.
        token_channels: Cz, a multiple of `heads`.
        tokens: K.
        heads: each weighs its own Cz / heads channels.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        condition_channels: int,
        token_channels: int,
        tokens: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.heads = heads
        joined, enhanced = channels + condition_channels, token_channels + tokens * heads
        self.condition = conv3x3(context_channels, condition_channels)
        self.combine = nn.Sequential(block_c(joined), block_c(joined))
        self.extraction = block_c(joined, token_channels)
        self.enhancement = nn.Sequential(block_c(enhanced), nn.LeakyReLU(0.01), block_c(enhanced, tokens * heads))
        self.values = nn.Sequential(
            block_c(joined, token_channels), nn.LeakyReLU(0.01), conv1x1(token_channels, token_channels)
        )
        self.out_proj = nn.Linear(token_channels, token_channels)

    def forward(self, y: Tensor, context: Tensor, weight_map: Tensor) -> Tensor:
        """y (B, C, h, w), context (B, N, h, w), weight map (B, K·heads, h, w) → z (B, Cz, K, 1)."""
        joined = self.combine(torch.cat([y, self.condition(context)], dim=1))
        refined = torch.sigmoid(self.enhancement(torch.cat([self.extraction(joined), weight_map], dim=1)))
        weights = rearrange(refined, "b (k n) h w -> b n k (h w)", n=self.heads)
        values = rearrange(self.values(joined), "b (n d) h w -> b n (h w) d", n=self.heads)
        tokens = torch.matmul(weights, values) / values.shape[-2]
        z: Tensor = self.out_proj(rearrange(tokens, "b n k d -> b k (n d)"))
        return rearrange(z, "b k c -> b c k 1")


class InverseTokenizer(nn.Module):
    """Tokens (B, Cz, K, 1) spread by the weight map (B, K·heads, h, w) → hierarchical parameters (B, C, h, w).

    `channels` C must be a multiple of `heads`.
    """

    def __init__(self, token_channels: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj = conv1x1(token_channels, channels)
        self.spread = WeightedMean()  # a module, for `exact_copy` to replace
        self.out_proj = nn.Sequential(block_c(channels), nn.LeakyReLU(0.01), conv1x1(channels, channels))

    def forward(self, tokens: Tensor, weight_map: Tensor) -> Tensor:
        height = weight_map.shape[-2]
        values = rearrange(self.proj(tokens), "b (n d) k 1 -> b n d k", n=self.heads)
        weights = rearrange(weight_map, "b (k n) h w -> b n k (h w)", n=self.heads)
        spread = self.spread(values, weights)
        out: Tensor = self.out_proj(rearrange(spread, "b n d (h w) -> b (n d) h w", h=height))
        return out


class PriorFusion(nn.Module):
    """Hierarchical and temporal parameters, each (B, C, h, w) → raw parameters (B, 3C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # One for the first frame of a chain, one for the others.
        self.adaptors = nn.ModuleList(
            nn.Sequential(block_c(2 * channels), conv1x1(2 * channels, 3 * channels)) for _ in range(2)
        )
        self.fusion = nn.Sequential(block_c(3 * channels), block_c(3 * channels))
        start_at_one(self.fusion, 2 * channels)

    def forward(self, hierarchical: Tensor, temporal: Tensor, chained: bool) -> Tensor:
        raw: Tensor = self.fusion(self.adaptors[int(chained)](torch.cat([hierarchical, temporal], dim=1)))
        return raw


class CheckerboardContext(nn.Module):
    """Parameters of pass 1 from what pass 0 decoded (dual spatial context; Li et al., DCVC-HEM).

    Args:
        channels: C of y.
        depth: blocks C, at least 2; published 3.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        inner = (block_c(3 * channels) for _ in range(depth - 2))
        self.layers = nn.Sequential(block_c(4 * channels, 3 * channels), *inner, block_c(3 * channels, 2 * channels))
        start_at_one(self.layers, channels)

    def forward(self, decoded: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded values (B, C, h, w), 0 where there is none yet, and raw parameters → scale and mean (B, C, h, w)."""
        scale, mean = self.layers(torch.cat([decoded, raw], dim=1)).chunk(2, dim=1)
        return scale, mean
