"""What the refined pictures are judged by."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from glc_train.losses import PerceptualLoss, PerceptualReference

TERMS = ("lpips_vgg", "style", "lpips_alex", "mse")
DEFAULT_WEIGHTS = {"lpips_vgg": 1.0, "style": 0.5, "lpips_alex": 0.8, "mse": 0.5}


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
    """LPIPS with VGG and with AlexNet, the style loss of the same VGG features, and the mean squared error.

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
        self._vgg = PerceptualLoss("vgg") if {"lpips_vgg", "style"} & self.weights.keys() else None
        self._alex = PerceptualLoss("alex") if "lpips_alex" in self.weights else None
        self._references: tuple[Tensor, dict[PerceptualLoss, PerceptualReference]] | None = None  # of the last x

    def __call__(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        """See `Distortion`."""
        terms = {"mse": F.mse_loss(x_hat, x)}
        if self._vgg is not None:
            terms["lpips_vgg"], terms["style"] = self._reference(self._vgg, x)(x_hat)
        if self._alex is not None:
            terms["lpips_alex"], _ = self._reference(self._alex, x)(x_hat)
        return {name: terms[name] for name in self.weights}

    def _reference(self, loss: PerceptualLoss, x: Tensor) -> PerceptualReference:
        if self._references is None or self._references[0] is not x:
            self._references = x, {}
        references = self._references[1]
        if loss not in references:
            references[loss] = PerceptualReference(loss, x)
        return references[loss]
