"""Keeps a codebook alive: initial entries from data, use and perplexity over a window, restart of dead entries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glc_train.layers import VectorQuantiser
from glc_train.losses import BetaPlacement, vq_loss
from glc_train.training.distributed import all_gather, all_sum

_SMALLEST_COUNT = 1e-3  # a moving count below it says nothing about where the entry should be


@dataclass(frozen=True)
class CodebookSettings:
    """How a codebook is trained.

    Attributes:
        weight: of the VQ loss. beta, placement: see `losses.vq_loss`.
        window, restart, ema: see `CodebookWatch`.
    """

    weight: float = 1.0
    beta: float = 0.25
    placement: BetaPlacement = "commitment"
    window: int = 200
    restart: bool = True
    ema: float | None = None

    def watch(self, quantiser: VectorQuantiser) -> "CodebookWatch":
        """The watch of one quantiser."""
        embedding = quantiser.embedding
        return CodebookWatch(embedding.num_embeddings, embedding.embedding_dim, self.window, self.restart, self.ema)

    def loss(self, x: Tensor, codes: Tensor) -> Tensor:
        """Weighted VQ loss of x and its codes, both (B, C, h, w)."""
        return self.weight * vq_loss(x, codes, self.beta, self.placement)


class CodebookWatch(nn.Module):
    """Watches one quantiser during training.

    Args:
        codes: entries of the codebook.
        channels: of the code vectors.
        window: steps over which use is counted; entries unused for a whole window are restarted from recent inputs.
        restart: whether to restart dead entries.
        ema: if set, entries are moving averages of the inputs they stand for, with this decay (VQ-VAE-2, Razavi et al.
            2019, equation 2), and get no gradient; None: the optimiser moves them.
    """

    def __init__(
        self, codes: int, channels: int, window: int = 200, restart: bool = True, ema: float | None = None
    ) -> None:
        super().__init__()
        self.window = window
        self.restart = restart
        self.ema = ema
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("perplexity", torch.zeros(()))
        self.register_buffer("used", torch.zeros(()))
        self.register_buffer("ema_counts", torch.ones(codes) if ema else None)
        self.register_buffer("ema_sums", torch.zeros(codes, channels) if ema else None)

    counts: Tensor
    steps: Tensor
    perplexity: Tensor
    used: Tensor
    ema_counts: Tensor | None
    ema_sums: Tensor | None

    @torch.no_grad()
    def initialise(self, quantiser: VectorQuantiser, vectors: Tensor, generator: torch.Generator) -> None:
        """Draws every entry from the vectors (n, C) of all ranks, a little noise added."""
        entries = torch.arange(quantiser.codes, device=vectors.device)
        self._assign(quantiser, entries, all_gather(vectors), generator)

    @torch.no_grad()
    def update(self, quantiser: VectorQuantiser, indices: Tensor, vectors: Tensor, generator: torch.Generator) -> None:
        """Counts indices (any shape) and, at the end of a window, restarts dead entries from vectors (n, C).

        With the same `generator` on every rank, every rank gets the same codebook.
        """
        flat = indices.flatten()
        self.counts += torch.bincount(flat, minlength=len(self.counts)).to(self.counts.dtype)
        if self.ema is not None:
            self._average(quantiser, flat, vectors.float())
        self.steps += 1
        if int(self.steps) % self.window:
            return
        self.counts.copy_(all_sum(self.counts))
        share = self.counts / self.counts.sum()
        self.perplexity.copy_(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
        self.used.copy_((self.counts > 0).float().mean())
        if self.restart:
            dead = (self.counts == 0).nonzero().flatten()
            # At most a quarter at once: a restart moves what its neighbours mean.
            dead = dead[torch.randperm(len(dead), generator=generator).to(dead.device)[: max(1, len(self.counts) // 4)]]
            self._assign(quantiser, dead, all_gather(vectors), generator)
        self.counts.zero_()

    def _average(self, quantiser: VectorQuantiser, indices: Tensor, vectors: Tensor) -> None:
        assert self.ema is not None
        assert self.ema_counts is not None
        assert self.ema_sums is not None
        counts = torch.bincount(indices, minlength=len(self.counts)).float()
        sums = torch.zeros_like(self.ema_sums).index_add_(0, indices, vectors)
        self.ema_counts.lerp_(all_sum(counts), 1 - self.ema)
        self.ema_sums.lerp_(all_sum(sums), 1 - self.ema)
        known = self.ema_counts > _SMALLEST_COUNT
        quantiser.embedding.weight.data[known] = self.ema_sums[known] / self.ema_counts[known, None]

    def _assign(self, quantiser: VectorQuantiser, entries: Tensor, vectors: Tensor, generator: torch.Generator) -> None:
        if not len(entries):
            return
        vectors = vectors.float()
        order = torch.randperm(len(vectors), generator=generator)
        chosen = vectors[order.repeat(-(-len(entries) // len(vectors)))[: len(entries)].to(vectors.device)]
        noise = torch.randn(chosen.shape, generator=generator).to(vectors.device)
        chosen = chosen + 0.02 * vectors.std() * noise
        quantiser.embedding.weight.data[entries] = chosen
        if self.ema_counts is not None and self.ema_sums is not None:
            self.ema_counts[entries] = 1.0
            self.ema_sums[entries] = chosen
