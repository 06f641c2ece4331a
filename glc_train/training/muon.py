"""Muon: momentum whose singular values are all made one (Jordan et al. 2024)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glc_train.precision import choose
from glc_train.training.sharding import is_sharded

# A quintic whose iteration drives singular values from (0, 1] into about 0.7 to 1.2 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # of an update per unit of learning rate, as AdamW's (Moonlight, Liu et al. 2025, section 2.2)


def orthogonalised(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrices with orthonormal rows or columns, roughly: (..., m, n) → (..., m, n) in `dtype`.

    Newton-Schulz iteration: singular values end between about 0.7 and 1.2, those of almost zero below. A matrix of
    zeros stays one. bfloat16 is precise enough.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype).view(-1, *sorted(matrices.shape[-2:]))
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-12)
    by_gram = dtype == torch.float32 and 2 * x.shape[-1] > 3 * x.shape[-2]  # bfloat16 is too coarse for squared values
    x = _polynomial(x @ x.mT) @ x if by_gram else _iterated(x)
    return (x.mT if tall else x).reshape(matrices.shape)


def _iterated(x: Tensor) -> Tensor:
    """The iteration on x (n, r, c)."""
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """What the iteration multiplies x by, from x·xᵀ (n, r, r) alone: of wide x a fraction of the work."""
    a, b, c = _QUINTIC
    product: Tensor | None = None
    for iteration in range(_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if iteration < _ITERATIONS - 1:
            gram = factor @ gram @ factor
    assert product is not None
    return product


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
        if self.found_inf is not None and self.found_inf.device.type == "cpu":  # to look at it is no wait
            if self.found_inf.numpy().any():
                return loss
            self.found_inf = None
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            alike: dict[Any, list[Tensor]] = {}
            for parameter in trained:
                alike.setdefault((parameter.shape[0], parameter[0].numel(), parameter.dtype), []).append(parameter)
            for parameters in alike.values():
                self._update(parameters, group, choose(parameters[0].device).dtype)
        return loss

    def _update(self, parameters: Sequence[Tensor], group: dict[str, Any], dtype: torch.dtype) -> None:
        """One step of parameters whose matrices have one shape: together, as many small kernels keep a GPU waiting."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        momentum = torch.stack([_matrix(m, p) for m, p in zip(momenta, parameters, strict=True)])
        gradient = torch.stack([_matrix(p.grad, p) for p in parameters if p.grad is not None])
        if self.found_inf is not None:
            gradient = torch.where(self.found_inf.bool(), momentum, gradient)  # which then stays as it is
        momentum.lerp_(gradient, 1 - group["momentum"])
        torch._foreach_copy_(momenta, [_shaped(m, p) for m, p in zip(momentum, parameters, strict=True)])
        direction = orthogonalised(gradient.lerp_(momentum, group["momentum"]), dtype)
        scale = _RMS * max(direction.shape[1:]) ** 0.5
        update = direction.to(parameters[0].dtype)
        update = update if self.found_inf is None else update * (1 - self.found_inf)
        shaped = [_shaped(u, p) for u, p in zip(update, parameters, strict=True)]
        torch._foreach_add_(list(parameters), shaped, alpha=-group["lr"] * scale)


def _channels_last(parameter: Tensor) -> bool:
    return parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)


def _matrix(x: Tensor, parameter: Tensor) -> Tensor:
    """x, of the parameter's shape, as (outputs, inputs), the inputs as they lie in its memory: their order is free."""
    return (x.permute(0, 2, 3, 1) if _channels_last(parameter) else x).flatten(1)


def _shaped(matrix: Tensor, parameter: Tensor) -> Tensor:
    """The inverse of `_matrix`."""
    if not _channels_last(parameter):
        return matrix.view(parameter.shape)
    out, into, *sides = parameter.shape
    return matrix.view(out, *sides, into).permute(0, 3, 1, 2)


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
