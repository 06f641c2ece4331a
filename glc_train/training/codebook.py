"""Keeps a codebook alive: initial entries from data, use and perplexity over a window, restart of dead entries."""

import torch
from torch import Tensor, nn

from glc_train.layers import VectorQuantiser


class CodebookWatch(nn.Module):
    """Watches one quantiser during training.

    Args:
        codes: entries of the codebook.
        window: steps over which use is counted; entries unused for a whole window are restarted from recent inputs.
        restart: whether to restart dead entries.
    """

    def __init__(self, codes: int, window: int = 200, restart: bool = True) -> None:
        super().__init__()
        self.window = window
        self.restart = restart
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("perplexity", torch.zeros(()))
        self.register_buffer("used", torch.zeros(()))

    counts: Tensor
    steps: Tensor
    perplexity: Tensor
    used: Tensor

    @torch.no_grad()
    def initialise(self, quantiser: VectorQuantiser, vectors: Tensor, generator: torch.Generator) -> None:
        """Draws every entry from vectors (n, C), with a little noise where there are fewer vectors than entries."""
        self._assign(quantiser, torch.arange(quantiser.codes, device=vectors.device), vectors, generator)

    @torch.no_grad()
    def update(self, quantiser: VectorQuantiser, indices: Tensor, vectors: Tensor, generator: torch.Generator) -> None:
        """Counts indices (any shape) and, at the end of a window, restarts dead entries from vectors (n, C)."""
        self.counts += torch.bincount(indices.flatten(), minlength=len(self.counts)).to(self.counts.dtype)
        self.steps += 1
        if int(self.steps) % self.window:
            return
        share = self.counts / self.counts.sum()
        self.perplexity.copy_(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
        self.used.copy_((self.counts > 0).float().mean())
        if self.restart:
            dead = (self.counts == 0).nonzero().flatten()
            # At most a quarter at once: a restart moves what its neighbours mean.
            dead = dead[torch.randperm(len(dead), generator=generator).to(dead.device)[: max(1, len(self.counts) // 4)]]
            self._assign(quantiser, dead, vectors, generator)
        self.counts.zero_()

    @staticmethod
    def _assign(quantiser: VectorQuantiser, entries: Tensor, vectors: Tensor, generator: torch.Generator) -> None:
        if not len(entries):
            return
        vectors = vectors.float()
        order = torch.randperm(len(vectors), generator=generator)
        chosen = vectors[order.repeat(-(-len(entries) // len(vectors)))[: len(entries)].to(vectors.device)]
        noise = torch.randn(chosen.shape, generator=generator).to(vectors.device)
        quantiser.embedding.weight.data[entries] = chosen + 0.02 * vectors.std() * noise
