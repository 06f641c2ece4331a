"""FID and KID over patches: two grids of patches per picture, features of any network.

Patches of 256 x 256 that do not overlap, plus the same grid shifted by half a patch in both directions (Mentzer et
al., NeurIPS 2020, appendix A.7).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

# At patch size 256. Kodak: 24 pictures of 768 x 512; too few for FID, so its published script uses 64.
EXPECTED_PATCHES: dict[tuple[str, int], int] = {
    ("clic2020_test", 256): 28650,
    ("div2k_val", 256): 6573,
    ("kodak", 256): 192,
    ("kodak", 64): 4152,
}


def count_patches(height: int, width: int, size: int = 256) -> int:
    """Number of patches that :func:`cut_patches` takes from a picture of ``height`` x ``width`` pixels."""
    shift = size // 2
    first = (height // size) * (width // size)
    second = (max(height - shift, 0) // size) * (max(width - shift, 0) // size)
    return first + second


def cut_patches(picture: np.ndarray, size: int = 256) -> np.ndarray:
    """Cut an (H, W, 3) picture into (N, size, size, 3) patches of the two grids; N may be 0."""
    grids = []
    for start in (0, size // 2):
        grid = picture[start:, start:]
        rows, columns = grid.shape[0] // size, grid.shape[1] // size
        tiles = grid[: rows * size, : columns * size].reshape(rows, size, columns, size, 3)
        grids.append(tiles.swapaxes(1, 2).reshape(rows * columns, size, size, 3))
    return np.concatenate(grids)


def check_patch_count(dataset: str, count: int, size: int = 256) -> None:
    """Raise ``ValueError`` where a known data set gave another number of patches than the protocol names."""
    expected = EXPECTED_PATCHES.get((dataset, size))
    if expected is not None and count != expected:
        raise ValueError(
            f"{dataset} gave {count} patches of {size} pixels and not {expected}: "
            "pictures are missing, resized or doubled, and the FID would not compare with published ones."
        )


@dataclass(frozen=True)
class DistributionScores:
    """FID and KID of all patches so far, and their number; ``None`` where there are too few patches."""

    fid: float | None
    kid: float | None
    patches: int


class _Given(nn.Module):
    """Hands features through, so that FID and KID share one pass of the network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class PatchDistribution:
    """Gathers patches of originals and decoded pictures, then gives FID and KID.

    Args:
        features: a network (B, 3, size, size) uint8 -> (B, num_features), with the attribute ``num_features``;
            the protocol's is :class:`~glc_train.metrics.inception.Inception2015`.
        size: patch side in pixels.
        batch: patches per pass of the network.
        device: where the network runs.
    """

    def __init__(
        self, features: nn.Module, size: int = 256, batch: int = 32, device: torch.device | str = "cpu"
    ) -> None:
        self.features = features.to(device).eval()
        self.size, self.batch, self.device = size, batch, torch.device(device)
        width = features.num_features
        if not isinstance(width, int):
            raise ValueError("The feature network must carry its output width as the integer num_features.")
        self._fid = FrechetInceptionDistance(feature=_Given(width))
        self._real: list[Tensor] = []
        self._fake: list[Tensor] = []

    @property
    def patches(self) -> int:
        """Number of patches of originals gathered so far."""
        return sum(len(block) for block in self._real)

    def update(self, original: np.ndarray, decoded: np.ndarray) -> None:
        """Add the patches of one pair of (H, W, 3) uint8 pictures; raises ``ValueError`` where their sizes differ."""
        if original.shape != decoded.shape:
            raise ValueError(f"The pictures differ in size: {original.shape} and {decoded.shape}.")
        for picture, blocks in ((original, self._real), (decoded, self._fake)):
            patches = cut_patches(picture, self.size)
            for start in range(0, len(patches), self.batch):
                blocks.append(self._pass(patches[start : start + self.batch]))

    @torch.no_grad()
    def _pass(self, patches: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2))).to(self.device)
        values: Tensor = self.features(tensor)
        return values.reshape(len(patches), -1).float().cpu()

    def compute(self) -> DistributionScores:
        """FID, and KID as the mean over 100 subsets of at most 1000 patches drawn with a fixed seed."""
        count = self.patches
        if count < 2:
            return DistributionScores(None, None, count)
        real, fake = torch.cat(self._real), torch.cat(self._fake)
        self._fid.reset()
        self._fid.update(real, real=True)
        self._fid.update(fake, real=False)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # KID announces that it keeps all features, which is intended
            torch.manual_seed(0)
            kid = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=100, subset_size=min(1000, count))
            kid.update(real, real=True)
            kid.update(fake, real=False)
            kid_mean = float(kid.compute()[0])
        fid = float(self._fid.compute())
        return DistributionScores(
            fid if math.isfinite(fid) else None, kid_mean if math.isfinite(kid_mean) else None, count
        )
