"""LPIPS and DISTS under one convention: (B, 3, H, W) in [0, 1] in, (B,) out, 0 for equal pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from glc_train.backbones import load_dists, load_lpips
from glc_train.metrics.facts import SMALLEST_SIDES
from glc_train.metrics.fidelity import check_pair


class _Trunk:
    """Features of pictures; those of the last original are kept, since it is compared at several qualities.

    They take most of the time. `next_is_original` says that the next call is of an original.
    """

    def __init__(self, features: Callable[[Tensor], Any]) -> None:
        self.features = features
        self.next_is_original = False
        self.kept: tuple[Tensor, Any] | None = None

    def __call__(self, x: Tensor) -> Any:
        is_original, self.next_is_original = self.next_is_original, False
        if is_original and self.kept is not None and torch.equal(x, self.kept[0]):
            return self.kept[1]
        if is_original:
            self.kept = None  # so that not two are in memory
        found = self.features(x)
        if is_original:
            self.kept = x, found
        return found


class _Perceptual(nn.Module):
    network: nn.Module
    trunk: _Trunk
    package: ClassVar[str]  # that computes it
    signed: bool  # whether the network takes [-1, 1]

    @torch.no_grad()
    def forward(self, original: Tensor, decoded: Tensor) -> Tensor | None:
        """Distance (B,) of two (B, 3, H, W) tensors in [0, 1]; `None` where a side is under 32 pixels."""
        check_pair(original, decoded)
        if min(original.shape[-2:]) < SMALLEST_SIDES["lpips"]:
            return None
        a, b = (2 * x.float() - 1 if self.signed else x.float() for x in (original, decoded))
        self.trunk.next_is_original = True
        value: Tensor = self.network(a, b)
        return value.reshape(-1)


class LPIPS(_Perceptual):
    """LPIPS version 0.1 (Zhang et al., CVPR 2018); the protocol's trunk is AlexNet.

    Raises `BackboneError` where the trunk's ImageNet weights cannot be found.
    """

    package, signed = "lpips", True

    def __init__(self, net: Literal["alex", "vgg"] = "alex", folder: Path | str | None = None) -> None:
        super().__init__()
        network: Any = load_lpips(net, folder)
        self.trunk = network.net.forward = _Trunk(network.net.forward)
        self.network = network


class DISTS(_Perceptual):
    """DISTS (Ding et al., TPAMI 2020), at the pictures' own size.

    Raises `BackboneError` where the trunk's ImageNet weights cannot be found.
    """

    package, signed = "DISTS_pytorch", False

    def __init__(self, folder: Path | str | None = None) -> None:
        super().__init__()
        network: Any = load_dists(folder)
        self.trunk = network.forward_once = _Trunk(network.forward_once)
        self.network = network
