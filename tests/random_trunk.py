"""Trunks of the perceptual losses with random weights, for tests that run without those of ImageNet."""

import torch
from torch import Tensor, nn

from glc_train.backbones import BackboneName, Trunk

_CONVOLUTIONS: dict[str, list[tuple[int, int, int, int]]] = {  # index, inputs, outputs, side
    "alexnet": [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)],
    "vgg16": [
        (0, 3, 64, 3), (2, 64, 64, 3), (5, 64, 128, 3), (7, 128, 128, 3), (10, 128, 256, 3), (12, 256, 256, 3),
        (14, 256, 256, 3), (17, 256, 512, 3), (19, 512, 512, 3), (21, 512, 512, 3), (24, 512, 512, 3),
        (26, 512, 512, 3), (28, 512, 512, 3),
    ],
}  # fmt: skip


def random_weights(net: BackboneName) -> dict[str, Tensor]:
    """The same at every call; activations keep their strength from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for index, into, out, side in _CONVOLUTIONS[net]:
        weight = torch.empty(out, into, side, side)
        weights[f"features.{index}.weight"] = nn.init.kaiming_normal_(weight, generator=generator)
        weights[f"features.{index}.bias"] = torch.zeros(out)
    return weights


def random_trunk(net: BackboneName) -> Trunk:
    """A trunk of them."""
    return Trunk(net, random_weights(net))
