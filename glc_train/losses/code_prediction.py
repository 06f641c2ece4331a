"""Code prediction: the decoded latent should still tell which codes the original picture has (GLC, section 3.4)."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class _Layer(nn.Module):
    """Pre-norm transformer layer; the position embedding goes to query and key, not to the value."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, mlp)
        self.linear2 = nn.Linear(mlp, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        value = self.norm1(x)
        query = value + position
        x = x + self.self_attn(query, query, value, need_weights=False)[0]
        out: Tensor = self.linear2(F.gelu(self.linear1(self.norm2(x))))
        return x + out


class CodePredictor(nn.Module):
    """A transformer that predicts the codebook indices of the original from a latent (CodeFormer, Zhou et al. 2022).

    Args:
        latent_channels: N; published 256.
        codes: M; published 16,384.
        width, heads, mlp, layers: of the transformer; published 512, 8, 1,024, 9.
        grid: side of the map that the position embedding is made for; other sizes interpolate it. Published 16.
    """

    def __init__(
        self,
        latent_channels: int = 256,
        codes: int = 16384,
        width: int = 512,
        heads: int = 8,
        mlp: int = 1024,
        layers: int = 9,
        grid: int = 16,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.position_emb = nn.Parameter(torch.zeros(grid * grid, width))
        self.feat_emb = nn.Linear(latent_channels, width)
        self.ft_layers = nn.ModuleList(_Layer(width, heads, mlp) for _ in range(layers))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codes, bias=False))

    def _position(self, height: int, width: int) -> Tensor:
        if (height, width) == (self.grid, self.grid):
            return self.position_emb
        table: Tensor = rearrange(self.position_emb, "(h w) c -> 1 c h w", h=self.grid)
        table = F.interpolate(table, size=(height, width), mode="bicubic", align_corners=False)
        return rearrange(table, "1 c h w -> (h w) c")

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, N, h, w) → logits (B, h·w, M), positions in raster order."""
        position = self._position(*latent.shape[-2:])
        x = self.feat_emb(rearrange(latent, "b c h w -> b (h w) c"))
        for layer in self.ft_layers:
            x = layer(x, position)
        logits: Tensor = self.idx_pred_layer(x)
        return logits

    def loss(self, latent: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats and share of right predictions, for indices (B, h, w) int64."""
        logits = self(latent).flatten(0, 1).float()
        target = indices.flatten()
        return F.cross_entropy(logits, target), (logits.argmax(1) == target).float().mean()
