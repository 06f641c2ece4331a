"""The Inception network of 2015 whose features FID and KID are defined on (Heusel et al., NeurIPS 2017).

It differs from torchvision's Inception v3 in the pooling of five blocks, in its 1008 classes and in how it resizes.
Its weights are not a part of any package: they are in a file that torch-fidelity, torchmetrics and pytorch-fid share.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import inception as blocks

from glc_train.pickles import read_pickle

DOWNLOAD = "download"
_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
_SIDE = 299


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class _BlockA(blocks.InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_average(x))]


class _BlockC(blocks.InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return [self.branch1x1(x), single, double, self.branch_pool(_average(x))]


class _BlockE(blocks.InceptionE):
    """The first of the two pools by average, the last by maximum."""

    def __init__(self, in_channels: int, maximum: bool) -> None:
        super().__init__(in_channels)
        self.maximum = maximum

    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, kernel_size=3, stride=1, padding=1) if self.maximum else _average(x)
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            self.branch_pool(pooled),
        ]


def resize_like_tensorflow1(x: Tensor, side: int = _SIDE) -> Tensor:
    """Bilinear resize of (B, C, H, W) to (B, C, side, side) with TensorFlow 1's grid: source = target x scale."""
    for dim in (2, 3):
        length = x.shape[dim]
        source = torch.arange(side, device=x.device, dtype=torch.float32) * (length / side)
        low = source.floor().long().clamp(max=length - 1)
        high = (low + 1).clamp(max=length - 1)
        weight = (source - low).reshape([side if d == dim else 1 for d in range(4)])
        x = torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight)
    return x


class Inception2015(blocks.Inception3):
    """(B, 3, H, W) uint8 -> (B, 2048) features before the classifier."""

    num_features = 2048

    def __init__(self) -> None:
        super().__init__(num_classes=1008, aux_logits=False, init_weights=False)
        self.Mixed_5b = _BlockA(192, pool_features=32)
        self.Mixed_5c = _BlockA(256, pool_features=64)
        self.Mixed_5d = _BlockA(288, pool_features=64)
        self.Mixed_6b = _BlockC(768, channels_7x7=128)
        self.Mixed_6c = _BlockC(768, channels_7x7=160)
        self.Mixed_6d = _BlockC(768, channels_7x7=160)
        self.Mixed_6e = _BlockC(768, channels_7x7=192)
        self.Mixed_7b = _BlockE(1280, maximum=False)
        self.Mixed_7c = _BlockE(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 2048) of uint8 pictures of any size."""
        x = (resize_like_tensorflow1(x.float()) - 128) / 128
        for name, block in self.named_children():
            if name in ("dropout", "fc"):
                continue
            x = block(x)
        return x.flatten(1)


def load_inception(path: Path | str) -> Inception2015:
    """Read the weights of the 2015 network, strictly.

    Args:
        path: the file; "download": that of torch-fidelity, which torchmetrics takes as well, fetched once into
            PyTorch's folder of checkpoints.

    Raises:
        ValueError: there is no such file, it holds another network, or it cannot be fetched.
    """
    if path == DOWNLOAD:
        state, path = _fetch(), _URL
    elif not Path(path).is_file():
        raise ValueError(f"{path} does not exist: name the file {Path(_URL).name}, or give inception={DOWNLOAD}.")
    else:
        state = read_pickle(Path(path))
    try:
        network = Inception2015()
        found = network.load_state_dict(state, strict=False)
    except Exception as error:
        raise ValueError(f"{path} does not hold the Inception network of 2015 ({error}).") from error
    missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        wrong = (missing + found.unexpected_keys)[0]
        raise ValueError(f"{path} does not hold the Inception network of 2015: {wrong} is missing or unexpected.")
    return network.requires_grad_(False).eval()


def _fetch() -> dict[str, Tensor]:
    try:
        return torch.hub.load_state_dict_from_url(
            _URL, map_location="cpu", progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:  # the latter: other bytes than those of its name's hash
        raise ValueError(
            f"The Inception weights cannot be fetched from {_URL} ({error}): fetch that file elsewhere, and give "
            "inception=FILE."
        ) from error
