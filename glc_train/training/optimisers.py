"""Optimisers that leave out a step by themselves, so that no GPU has to be waited for to see whether one is due."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glc_train.training.muon import Muon
from glc_train.training.sharding import is_sharded, parameter_groups


def adamw(
    parameters: Sequence[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW of these parameters, in groups of sharded and of whole ones; fused where none is sharded."""
    fused = not any(is_sharded(p) for p in parameters)
    pair = (betas[0], betas[1])  # of plain numbers: a list of OmegaConf would make checkpoints unreadable
    return torch.optim.AdamW(parameter_groups(parameters), lr=lr, betas=pair, weight_decay=weight_decay, fused=fused)


def step_unless(bad: Tensor, optimiser: torch.optim.Optimizer) -> bool:
    """Whether to call the step of `optimiser`, which changes nothing where `bad`, a scalar of truth, is true.

    Muon and the fused optimisers of PyTorch look at `bad` on the device, all others need the answer here.
    """
    if isinstance(optimiser, Muon) or all(group.get("fused") for group in optimiser.param_groups):
        optimiser.found_inf = bad.float()  # type: ignore[attr-defined]
        return True
    return not bool(bad)
