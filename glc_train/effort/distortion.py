"""What the refined pictures are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from glc_train.losses import DistsLoss, DistsReference, PerceptualLoss, PerceptualReference

TERMS = ("dists", "lpips_alex", "mse", "lpips_vgg", "style")
DEFAULT_WEIGHTS = {"dists": 1.0, "lpips_alex": 1.0, "mse": 0.5}


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
    """DISTS, LPIPS with AlexNet and the mean squared error; if given a weight also LPIPS with VGG16 and a style loss.

    Args:
        weights: of the terms in `TERMS`; a term without one does not count, and its network is not loaded.

    Raises:
        BackboneError: the ImageNet weights of a network are not at hand.
        ValueError: an unknown term, or a weight below 0.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights: Mapping[str, float] = {
            name: value for name, value in (weights or DEFAULT_WEIGHTS).items() if value != 0
        }
        wrong = [name for name, value in self.weights.items() if name not in TERMS or not value > 0]
        if wrong or not self.weights:
            raise ValueError(f"weights of a mixture are of {', '.join(TERMS)} and above 0, not {dict(weights or {})}")
        self._dists = DistsLoss() if "dists" in self.weights else None
        self._alex = PerceptualLoss("alex") if "lpips_alex" in self.weights else None
        self._vgg = PerceptualLoss("vgg") if {"lpips_vgg", "style"} & self.weights.keys() else None
        self._last: tuple[Tensor, _References] | None = None

    def __call__(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        """See `Distortion`."""
        if self._last is None or self._last[0] is not x:
            self._last = (
                x,
                _References(
                    dists=None if self._dists is None else self._dists.reference(x),
                    alex=None if self._alex is None else PerceptualReference(self._alex, x),
                    vgg=None if self._vgg is None else PerceptualReference(self._vgg, x),
                ),
            )
        to = self._last[1]
        terms = {"mse": F.mse_loss(x_hat, x)}
        if to.dists is not None:
            terms["dists"] = to.dists(x_hat)
        if to.alex is not None:
            terms["lpips_alex"], _ = to.alex(x_hat)
        if to.vgg is not None:
            terms["lpips_vgg"], terms["style"] = to.vgg(x_hat)
        return {name: terms[name] for name in self.weights}


@dataclass(frozen=True)
class _References:
    """Of a picture, what tells the distance to it."""

    dists: DistsReference | None
    alex: PerceptualReference | None
    vgg: PerceptualReference | None
