"""Keeps a codebook alive: initial entries from data, use and perplexity over a window, restart of dead entries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glc_train.layers import FiniteScalarQuantiser, VectorQuantiser
from glc_train.losses import BetaPlacement, vq_loss
from glc_train.training.distributed import all_gather, all_sum, from_rank_zero

Quantiser = VectorQuantiser | FiniteScalarQuantiser

_SMALLEST_COUNT = 1e-3  # a moving count below it says nothing about where the entry should be


@dataclass(frozen=True)
class CodebookSettings:
    """How a codebook is trained. Without effect on finite scalar quantisation, which has no entries, but for `window`.

    Attributes:
        weight: of the VQ loss. beta, placement: see `losses.vq_loss`.
        window: steps over which use is counted.
        restart: restart entries unused for a whole window from recent inputs.
        ema: if set, entries are moving averages of the inputs they stand for, with this decay (VQ-VAE-2, Razavi et al.
            2019, equation 2); None: the gradient of the VQ loss moves them.
        kmeans: iterations of k-means over the first batch (and what the reservoir holds) for the initial entries; 0
            draws them from it.
        reservoir: recent input vectors kept for restarts.
    """

    weight: float = 1.0
    beta: float = 0.25
    placement: BetaPlacement = "commitment"
    window: int = 200
    restart: bool = True
    ema: float | None = None
    kmeans: int = 0
    reservoir: int = 4096

    def loss(self, x: Tensor, codes: Tensor, quantiser: Quantiser) -> Tensor:
        """Weighted VQ loss of x and its codes, both (B, C, h, w); zero for finite scalar quantisation."""
        if isinstance(quantiser, FiniteScalarQuantiser):
            return x.new_zeros(())
        return self.weight * vq_loss(x, codes, self.beta, self.placement)


class CodebookWatch(nn.Module):
    """Watches one quantiser during training.

    Given the same random generator, every rank does the same to its copy of the codebook; new entries are those of rank
    0, because sums may differ in their last bits from one device to another.

    Args:
        quantiser: what is watched; not part of this module.
        settings: see `CodebookSettings`.
    """

    def __init__(self, quantiser: Quantiser, settings: CodebookSettings) -> None:
        super().__init__()
        self.settings = settings
        self._quantiser = (quantiser,)  # in a tuple, so that it stays a part of the codec alone
        codes, channels = quantiser.codes, quantiser.channels
        embedding = quantiser.embedding.weight if isinstance(quantiser, VectorQuantiser) else None
        averaged = embedding is not None and settings.ema is not None
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("perplexity", torch.zeros(()))
        self.register_buffer("used", torch.zeros(()))
        self.register_buffer("ema_counts", torch.ones(codes) if averaged else None)
        # A codebook that is trained already goes on from where it is.
        entries = embedding.detach().clone() if embedding is not None and averaged else None
        self.register_buffer("ema_sums", entries)
        keeps = embedding is not None and settings.restart
        self.register_buffer("reservoir", torch.zeros(settings.reservoir, channels) if keeps else None)
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    counts: Tensor
    perplexity: Tensor
    used: Tensor
    ema_counts: Tensor | None
    ema_sums: Tensor | None
    reservoir: Tensor | None
    filled: Tensor

    @torch.no_grad()
    def initialise(self, vectors: Tensor, generator: torch.Generator) -> None:
        """First entries from the input vectors (n, C) of all ranks and recent ones: drawn, then refined by k-means."""
        (quantiser,) = self._quantiser
        if isinstance(quantiser, FiniteScalarQuantiser):
            return
        vectors = all_gather(vectors.float())
        if self.reservoir is not None:
            vectors = torch.cat([vectors, self.reservoir[: int(self.filled)]])
        self._assign(quantiser, torch.arange(quantiser.codes, device=vectors.device), vectors, generator)
        weight = quantiser.embedding.weight.data
        for _ in range(self.settings.kmeans):
            nearest = quantiser.nearest(vectors.t()[None, :, :, None]).flatten()
            counts = torch.bincount(nearest, minlength=len(weight))
            sums = torch.zeros_like(weight).index_add_(0, nearest, vectors)
            weight[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
        from_rank_zero(weight)
        if self.ema_sums is not None:
            self.ema_sums.copy_(weight)

    @torch.no_grad()
    def update(self, indices: Tensor, vectors: Tensor, generator: torch.Generator, step: int) -> None:
        """Counts the indices (any shape) of a step's input vectors (n, C); after a window restarts dead entries."""
        (quantiser,) = self._quantiser
        flat = indices.flatten()
        ones = torch.ones_like(flat, dtype=torch.float32)
        counts = torch.zeros_like(self.counts).index_add_(0, flat, ones)  # `bincount` would make a GPU wait
        counts = all_sum(counts)  # at every step: a checkpoint within a window has what rank 0 has
        self.counts += counts
        if self.ema_sums is not None:
            assert isinstance(quantiser, VectorQuantiser)
            self._average(quantiser, counts, flat, vectors.float())
        self._remember(all_gather(vectors.float()), generator)
        if (step + 1) % self.settings.window:
            return
        share = self.counts / self.counts.sum()
        self.perplexity.copy_(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
        self.used.copy_((self.counts > 0).float().mean())
        if self.reservoir is not None:
            assert isinstance(quantiser, VectorQuantiser)
            recent = self.reservoir[: int(self.filled)]
            dead = (self.counts == 0).nonzero().flatten()
            self._assign(quantiser, dead, recent, generator)
            from_rank_zero(quantiser.embedding.weight.data)
            if self.ema_sums is not None:
                from_rank_zero(self.ema_sums)
        self.counts.zero_()

    def _remember(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Puts some of this step's vectors into the ring of recent ones, which so spans several steps."""
        if self.reservoir is None:
            return
        size = len(self.reservoir)
        chosen = torch.randperm(len(vectors), generator=generator)[: max(1, size // 8)]
        some = vectors[chosen.to(vectors.device, non_blocking=True)]
        places = (self.filled + torch.arange(len(some), device=vectors.device)) % size
        self.reservoir[places] = some
        self.filled += len(some)

    def _average(self, quantiser: VectorQuantiser, counts: Tensor, indices: Tensor, vectors: Tensor) -> None:
        assert self.settings.ema is not None
        assert self.ema_counts is not None
        assert self.ema_sums is not None
        sums = torch.zeros_like(self.ema_sums).index_add_(0, indices, vectors)
        self.ema_counts.lerp_(counts, 1 - self.settings.ema)
        self.ema_sums.lerp_(all_sum(sums), 1 - self.settings.ema)
        counts, weight = self.ema_counts[:, None], quantiser.embedding.weight.data
        weight.copy_(torch.where(counts > _SMALLEST_COUNT, self.ema_sums / counts, weight))

    def _assign(self, quantiser: VectorQuantiser, entries: Tensor, vectors: Tensor, generator: torch.Generator) -> None:
        if not len(entries):
            return
        order = torch.randperm(len(vectors), generator=generator)
        chosen = vectors[order.repeat(-(-len(entries) // len(vectors)))[: len(entries)].to(vectors.device)]
        noise = torch.randn(chosen.shape, generator=generator).to(vectors.device)
        chosen = chosen + 0.02 * vectors.std() * noise
        quantiser.embedding.weight.data[entries] = chosen
        if self.ema_counts is not None and self.ema_sums is not None:
            self.ema_counts[entries] = 1.0
            self.ema_sums[entries] = chosen
