import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from glc_train.metrics import ms_ssim, psnr
from glc_train.metrics.pictures import to_tensor
from tests.metrics.rendered import coarsen, render


def _ssim_maps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contrast-structure and luminance of one channel in [0, 1], over windows that lie inside."""
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    mean_a, mean_b, aa, bb, ab = (convolve2d(v, window, mode="valid") for v in (a, b, a * a, b * b, a * b))
    contrast = (2 * (ab - mean_a * mean_b) + 0.03**2) / (aa - mean_a**2 + bb - mean_b**2 + 0.03**2)
    return contrast, (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)


def _halve(a: np.ndarray) -> np.ndarray:
    a = a[: a.shape[0] // 2 * 2, : a.shape[1] // 2 * 2]
    return a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, -1).mean((1, 3))


def _reference_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2003, written from the paper; each scale is averaged over positions and channels."""
    product = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        maps = [_ssim_maps(a[..., c], b[..., c]) for c in range(3)]
        product *= np.mean([contrast * (light if scale == 4 else 1) for contrast, light in maps]) ** weight
        a, b = _halve(a), _halve(b)
    return product


def test_psnr_is_the_decibels_of_the_mean_squared_error() -> None:
    a, b = render(40, 56), coarsen(render(40, 56))
    expected = 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))
    assert psnr(to_tensor(a), to_tensor(b)).item() == pytest.approx(expected, abs=1e-3)


def test_psnr_is_per_picture() -> None:
    a = torch.full((2, 3, 8, 8), 0.5)
    b = torch.stack([a[0] + 0.1, a[1] + 0.01])
    assert psnr(a, b).tolist() == pytest.approx([20, 40], abs=1e-3)
    assert psnr(a, a).isinf().all()


def test_ms_ssim_against_the_formula() -> None:
    a, b = render(176, 192), coarsen(render(176, 192))
    value = ms_ssim(to_tensor(a), to_tensor(b))
    assert value is not None
    # torchmetrics keeps the reflected border of the last scale, 11 x 12 positions here; the paper's windows lie inside.
    assert value.item() == pytest.approx(_reference_ms_ssim(a / 255, b / 255), abs=2e-4)


@pytest.mark.parametrize(("height", "computed"), [(175, False), (176, True)])
def test_ms_ssim_is_none_under_176_pixels(height: int, computed: bool) -> None:
    a = to_tensor(render(height, 200))
    assert (ms_ssim(a, a) is not None) == computed


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(ValueError, match="RGB"):
        psnr(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
