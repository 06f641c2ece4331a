"""Optimisers that leave out a step by themselves, so that no GPU has to be waited for to see whether one is due."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glc_train.training.muon import Muon
from glc_train.training.sharding import is_sharded, parameter_groups

_CONFIGURED = ("lr", "betas", "weight_decay")


def adamw(
    parameters: Sequence[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW of these parameters, in groups of sharded and of whole ones; fused where none is sharded."""
    fused = not any(is_sharded(p) for p in parameters)
    pair = (betas[0], betas[1])  # of plain numbers: a list of OmegaConf would make checkpoints unreadable
    return torch.optim.AdamW(parameter_groups(parameters), lr=lr, betas=pair, weight_decay=weight_decay, fused=fused)


def given_options(optimisers: Sequence[Any]) -> list[dict[str, Any]]:
    """Of each group of the optimisers the options that the configuration has, as they are now.

    A checkpoint has values of its own for them, which `scale_rates` sets back.
    """
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    return [{name: group[name] for name in _CONFIGURED if name in group} for group in groups]


def scale_rates(optimisers: Sequence[Any], given: Sequence[dict[str, Any]], factor: float) -> None:
    """Sets the options of each group to those in `given`, with the learning rate times `factor`."""
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    for group, options in zip(groups, given, strict=True):
        group.update(options | {"lr": options["lr"] * factor})


def step_unless(bad: Tensor, optimiser: torch.optim.Optimizer) -> bool:
    """Whether to call the step of `optimiser`, which changes nothing where `bad`, a scalar of truth, is true.

    Muon and the fused optimisers of PyTorch look at `bad` on the device, all others need the answer here.
    """
    if isinstance(optimiser, Muon) or all(group.get("fused") for group in optimiser.param_groups):
        optimiser.found_inf = bad.float()  # type: ignore[attr-defined]
        return True
    return not bool(bad)
