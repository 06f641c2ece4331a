"""Muon: momentum whose singular values are all made one (Jordan et al. 2024)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glc_train.precision import choose
from glc_train.training.sharding import is_sharded

# A quintic whose iteration drives singular values from (0, 1] into about 0.7 to 1.2 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # of an update per unit of learning rate, as AdamW's (Moonlight, Liu et al. 2025, section 2.2)


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly: (m, n) → (m, n) in `dtype`.

    Newton-Schulz iteration: singular values end between about 0.7 and 1.2, those of almost zero below. A matrix of
    zeros stays one. bfloat16 is precise enough.
    """
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x
    x = x / (x.norm() + 1e-12)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.t()
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.t() if tall else x


class Muon(torch.optim.Optimizer):
    """Trains weights as matrices (outputs, inputs); every direction moves alike, also those of small gradients.

    With Adam, an auto-encoder of images learns its few directions of large variance (brightness, colour) first, and a
    codebook then cuts off the others.

    Args:
        params: weights of two dimensions or more; the first is that of the outputs.
        lr: learning rate; the root mean square of an update is 0.2·lr, so rates of AdamW are near those needed here.
        momentum: of the gradient, Nesterov's.

    Raises:
        ValueError: a parameter is not a matrix, or is spread over several devices.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.found_inf: Tensor | None = None  # 1 leaves a step out, as of PyTorch's fused optimisers
        parameters = [p for group in self.param_groups for p in group["params"]]
        if any(p.dim() < 2 for p in parameters):
            raise ValueError("Muon trains matrices: parameters need two dimensions or more")
        if any(is_sharded(p) for p in parameters):
            raise ValueError("Muon needs whole matrices and trains no sharded parameters: set muon_lr=null")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            dtype = choose(group["params"][0].device).dtype
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group, dtype)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], dtype: torch.dtype) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        if self.found_inf is not None:
            gradient = torch.where(self.found_inf.bool(), state["momentum"], gradient)  # which then stays as it is
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalised(gradient.lerp(state["momentum"], group["momentum"]).flatten(1), dtype)
        scale = _RMS * max(direction.shape) ** 0.5
        update = direction.view(parameter.shape).to(parameter.dtype)
        update = update if self.found_inf is None else update * (1 - self.found_inf)
        parameter.add_(update, alpha=-group["lr"] * scale)


def matrices(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The weights among the modules' trained parameters that act as matrices: of linear layers and convolutions.

    Not those of depthwise and grouped convolutions, codebooks, gains and biases.
    """
    found: dict[int, nn.Parameter] = {}
    for module in modules:
        for layer in module.modules():
            whole = isinstance(layer, nn.Conv2d) and layer.groups == 1
            if (whole or isinstance(layer, nn.Linear)) and layer.weight.requires_grad:
                assert isinstance(layer.weight, nn.Parameter)
                found[id(layer.weight)] = layer.weight
    return list(found.values())
