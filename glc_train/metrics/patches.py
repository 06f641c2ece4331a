"""FID and KID over patches: two grids of patches per picture, features of any network.

Patches of 256 x 256 that do not overlap, plus the same grid shifted by half a patch in both directions (Mentzer et
al., NeurIPS 2020, appendix A.7).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from glc_train.metrics.facts import MetricSource
from glc_train.metrics.sources import source_of

# At patch size 256. Kodak: 24 pictures of 768 x 512; too few for FID, so its published script uses 64.
EXPECTED_PATCHES: dict[tuple[str, int], int] = {
    ("clic2020_test", 256): 28650,
    ("div2k_val", 256): 6573,
    ("kodak", 256): 192,
    ("kodak", 64): 4152,
}


def count_patches(height: int, width: int, size: int = 256) -> int:
    """Number of patches that `cut_patches` takes from a picture of `height` x `width` pixels."""
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
    """Raise `ValueError` where a known data set gave another number of patches than the protocol names."""
    expected = EXPECTED_PATCHES.get((dataset, size))
    if expected is not None and count != expected:
        raise ValueError(
            f"{dataset} gave {count} patches of {size} pixels and not {expected}: "
            "pictures are missing, resized or doubled, and the FID would not compare with published ones."
        )


@dataclass(frozen=True)
class DistributionScores:
    """FID and KID of all patches so far, and their number; `None` where there are too few patches."""

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


class PatchFeatures:
    """Features of a picture's patches.

    Args:
        network: (B, 3, size, size) uint8 -> (B, num_features), with the attribute `num_features`; the protocol's is
            `Inception2015`.
        size: patch side in pixels.
        batch: patches per pass of the network.
        device: where the network runs.
    """

    def __init__(
        self, network: nn.Module, size: int = 256, batch: int = 32, device: torch.device | str = "cpu"
    ) -> None:
        if not isinstance(network.num_features, int):
            raise ValueError("The feature network must carry its output width as the integer num_features.")
        self.network = network.to(device).eval()
        self.width = network.num_features
        self.size, self.batch, self.device = size, batch, torch.device(device)

    @torch.no_grad()
    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Features (N, num_features) float32 of the N patches of an (H, W, 3) uint8 picture."""
        patches = cut_patches(picture, self.size)
        blocks = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(patches), self.batch):
            block = np.ascontiguousarray(patches[start : start + self.batch].transpose(0, 3, 1, 2))
            values: Tensor = self.network(torch.from_numpy(block).to(self.device))
            blocks.append(values.reshape(len(block), -1).float().cpu().numpy())
        return np.concatenate(blocks)


def distribution_sources(features: PatchFeatures) -> dict[str, MetricSource]:
    """Where FID and KID of these features come from; the weights are those of the network."""
    network = source_of(features.network)
    return {
        name: replace(
            source_of(kind), target=f"{kind.__name__} of {network.target}", weights_sha256=network.weights_sha256
        )
        for name, kind in {"fid": FrechetInceptionDistance, "kid": KernelInceptionDistance}.items()
    }


def compare_distributions(originals: np.ndarray, decoded: np.ndarray) -> DistributionScores:
    """FID, and KID as the mean over 100 subsets of at most 1000 patches drawn with a fixed seed.

    Args:
        originals, decoded: features (N, F) of all patches, see `PatchFeatures`.
    """
    count, width = originals.shape
    if count < 2:
        return DistributionScores(None, None, count)
    real, fake = torch.from_numpy(originals), torch.from_numpy(decoded)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # KID announces that it keeps all features, which is intended
        torch.manual_seed(0)
        distances = (
            FrechetInceptionDistance(feature=_Given(width)),
            KernelInceptionDistance(feature=_Given(width), subsets=100, subset_size=min(1000, count)),
        )
        for distance in distances:
            distance.update(real, real=True)
            distance.update(fake, real=False)
        fid, kid = float(distances[0].compute()), float(distances[1].compute()[0])
    return DistributionScores(fid if math.isfinite(fid) else None, kid if math.isfinite(kid) else None, count)
