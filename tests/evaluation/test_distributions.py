"""FID and KID of an evaluation against the formulas, in NumPy and SciPy, on the files that it leaves."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn

from glc_train.evaluation import Pictures, Result
from glc_train.evaluation.codecs import through_files
from glc_train.evaluation.measure import Bench
from glc_train.evaluation.results import mean_of
from glc_train.media import read_picture, write_picture
from glc_train.metrics import PatchFeatures, PictureMetrics, cut_patches, psnr
from glc_train.processes import in_processes
from tests.evaluation.fake_codec import FakeCodec
from tests.metrics.rendered import render

SIZE, QUALITIES = 16, [0, 2]


class Small(nn.Module):
    """Six features: means of three random filters, and of their squares."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        filtered = nn.functional.conv2d(x.float() / 255, self.kernel)  # type: ignore[arg-type]
        return torch.cat([filtered.mean((2, 3)), filtered.square().mean((2, 3))], 1)


def bench(out: Path) -> Bench:
    features = PatchFeatures(Small(), size=SIZE, batch=7)
    return Bench(through_files(FakeCodec()), QUALITIES, out, PictureMetrics({"psnr": psnr}), {}, features=features)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    for number in range(3):
        write_picture(tmp_path / f"originals/p{number}.png", render(48 + 8 * number, 67))
    return Pictures(root=str(tmp_path / "originals"))


def features(paths: list[Path]) -> np.ndarray:
    """In float64, filter by filter."""
    patches = np.concatenate([cut_patches(read_picture(path), SIZE) for path in paths]).astype(np.float64) / 255
    kernel = Small().kernel.numpy().astype(np.float64)  # type: ignore[operator]
    windows = np.lib.stride_tricks.sliding_window_view(patches, (3, 3), axis=(1, 2))
    filtered = np.einsum("nyxcij,ocij->noyx", windows, kernel)
    return np.concatenate([filtered.mean((2, 3)), (filtered**2).mean((2, 3))], 1)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    cov = [np.cov(each, rowvar=False) for each in (a, b)]
    root = linalg.sqrtm(cov[0] @ cov[1])
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * root.real))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    n = len(a)
    within = sum((each.sum() - np.trace(each)) / (n * (n - 1)) for each in (kernel(a, a), kernel(b, b)))
    return float(within - 2 * kernel(a, b).mean())


def check(results: list[Result], folder: Path) -> None:
    names = sorted({result.name for result in results})
    originals = features([folder / f"originals/{name}.png" for name in names])
    for quality in QUALITIES:
        figures: Any = mean_of([r for r in results if r.quality == quality]).figures
        decoded = features([folder / f"out/decoded/q{quality}/{name}.png" for name in names])
        assert figures["patches"] == len(originals) > 30
        assert figures["fid"] == pytest.approx(frechet(originals, decoded), rel=1e-3)
        # no more than 1,000 patches: each subset is the whole set
        assert figures["kid"] == pytest.approx(kernel_distance(originals, decoded), rel=1e-3)


def test_of_each_quality(pictures: Pictures, tmp_path: Path) -> None:
    measure = bench(tmp_path / "out")
    check([result for item in pictures.items() for result in measure(item)], tmp_path)


@pytest.mark.slow
def test_of_pictures_that_several_processes_measured(pictures: Pictures, tmp_path: Path) -> None:
    outcomes = dict(in_processes(pictures.items(), 2, partial(bench, tmp_path / "out")))
    results = [result for outcome in outcomes.values() if isinstance(outcome, list) for result in outcome]
    assert len(results) == 6
    check(results, tmp_path)
