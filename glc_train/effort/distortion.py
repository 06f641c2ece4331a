"""What the refined pictures are judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from glc_train.losses import DistsLoss, PerceptualLoss

DEFAULT_WEIGHTS = {"dists": 1.0, "lpips_alex": 1.0, "mse": 0.5}
_NETWORKS: dict[str, Callable[[], DistsLoss | PerceptualLoss]] = {
    "dists": DistsLoss,
    "lpips_alex": partial(PerceptualLoss, "alex"),
}


class Distortion(Protocol):
    """Any function of x_hat and x (1, 3, H, W) about [-1, 1]: terms by name, scalars of at least 0 with gradients.

    What counts is each term divided by its value before the first step, times its weight: that in the mapping `weights`
    where the function has such an attribute, else 1. x is the same tensor in all steps of a picture's window.
    """

    def __call__(self, x_hat: Tensor, x: Tensor) -> Mapping[str, Tensor]:
        """The terms."""
        ...


def weight_of(distortion: Distortion, term: str) -> float:
    """The weight of a term."""
    weights: Mapping[str, float] = getattr(distortion, "weights", {})
    return weights.get(term, 1.0)


class PerceptualMixture:
    """DISTS, LPIPS with AlexNet and the mean squared error.

    Args:
        weights: of the terms in `DEFAULT_WEIGHTS`, which hold without; a term without one does not count, and its
            network is not loaded.

    Raises:
        BackboneError: the ImageNet weights of a network are not at hand.
        ValueError: an unknown term, or a weight below 0.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights: Mapping[str, float] = {
            name: value for name, value in (weights or DEFAULT_WEIGHTS).items() if value != 0
        }
        wrong = [name for name, value in self.weights.items() if name not in DEFAULT_WEIGHTS or not value > 0]
        if wrong or not self.weights:
            names = ", ".join(DEFAULT_WEIGHTS)
            raise ValueError(f"weights of a mixture are of {names} and above 0, not {dict(weights or {})}")
        self._losses = {name: load() for name, load in _NETWORKS.items() if name in self.weights}
        self._last: tuple[Tensor, dict[str, Callable[[Tensor], Tensor]]] | None = None

    def __call__(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        """See `Distortion`."""
        if self._last is None or self._last[0] is not x:
            self._last = x, {name: loss.reference(x) for name, loss in self._losses.items()}
        to = self._last[1]
        return {name: to[name](x_hat) if name in to else F.mse_loss(x_hat, x) for name in self.weights}
