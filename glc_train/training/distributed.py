"""Several processes: weights, counts and random numbers that agree on every rank."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor


def is_distributed() -> bool:
    """Whether more than one process trains."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_sum(x: Tensor) -> Tensor:
    """Sum of x over all ranks; x itself with one process."""
    if is_distributed():
        x = x.clone()
        dist.all_reduce(x)
    return x


def all_mean(x: Tensor) -> Tensor:
    """Mean of x over all ranks."""
    return all_sum(x) / dist.get_world_size() if is_distributed() else x


def all_gather(x: Tensor) -> Tensor:
    """x (n, ...) of all ranks, (n · ranks, ...), in the order of the ranks; the same n everywhere."""
    if not is_distributed():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def from_rank_zero(x: Tensor) -> Tensor:
    """x as rank 0 has it."""
    if is_distributed():
        dist.broadcast(x, 0)
    return x


@lru_cache(maxsize=1)
def _between_hosts(everyone: Any) -> Any:
    """The group of all ranks, talking without their GPUs, which would have to finish their work first."""
    return everyone if dist.get_backend(everyone) == "gloo" else dist.new_group(backend="gloo")


def numbers_from_rank_zero(values: Sequence[float]) -> list[float]:
    """The values as rank 0 has them; as many on every rank."""
    if not is_distributed():
        return list(values)
    agreed = torch.tensor(values, dtype=torch.float64)
    dist.broadcast(agreed, 0, group=_between_hosts(dist.group.WORLD))
    return [float(value) for value in agreed]


def largest(values: Sequence[int]) -> list[int]:
    """The largest of each of the values over all ranks."""
    if not is_distributed():
        return list(values)
    agreed = torch.tensor(values)
    dist.all_reduce(agreed, dist.ReduceOp.MAX, group=_between_hosts(dist.group.WORLD))
    return [int(value) for value in agreed]


class GradientAveraging(DDPStrategy):
    """Data parallelism without PyTorch's wrapper: the training step averages gradients itself (`GradientAverage`)."""

    def configure_ddp(self) -> None:
        """Gives every rank the parameters and buffers of rank 0."""
        assert self.model is not None
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            dist.broadcast(tensor.data, 0)


class Draws:
    """Random numbers of one training step, the same for every division of the batch among ranks.

    Args:
        seed, step: what the numbers are a function of, so that a resumed run draws the same.
        rank, ranks: this process takes its slice of what is drawn for the whole batch.
    """

    def __init__(self, seed: int, step: int, rank: int = 0, ranks: int = 1) -> None:
        self.common = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        self.rank = rank
        self.ranks = ranks

    def _slice(self, x: Tensor, samples: int) -> Tensor:
        return x[self.rank * samples : (self.rank + 1) * samples]

    def uniform(self, samples: int, *shape: int) -> Tensor:
        """Tensor of shape `(samples, *shape)`, uniform in [0, 1)."""
        return self._slice(torch.rand(samples * self.ranks, *shape, generator=self.common), samples)

    def balanced(self, samples: int, levels: int) -> Tensor:
        """(samples,) int64 in [0, levels): over the whole batch every level as often as can be.

        A batch smaller than the number of levels is spread over them: one level from each of its equal shares.
        """
        total = samples * self.ranks
        if total < levels:
            place = torch.arange(total) + torch.rand(total, generator=self.common, dtype=torch.float64)
            spread = (place * levels / total).long().clamp_max(levels - 1)
            return self._slice(spread[torch.randperm(total, generator=self.common)], samples)
        start = torch.randint(levels, (), generator=self.common)
        return self._slice((torch.randperm(total, generator=self.common) + start) % levels, samples)
