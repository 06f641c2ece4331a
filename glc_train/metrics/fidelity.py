"""PSNR and MS-SSIM: how far the samples are, without a network."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from glc_train.metrics.facts import SMALLEST_SIDES


def check_pair(original: Tensor, decoded: Tensor) -> None:
    """Raise `ValueError` unless both are (B, 3, H, W) floating tensors of one shape."""
    if original.shape != decoded.shape:
        raise ValueError(
            f"The original is {tuple(original.shape)} and the decoded picture {tuple(decoded.shape)}: "
            "a metric needs two tensors of one shape."
        )
    if original.ndim != 4 or original.shape[1] != 3:
        raise ValueError(f"A metric takes (B, 3, H, W) RGB tensors, not {tuple(original.shape)}.")
    if not (original.is_floating_point() and decoded.is_floating_point()):
        raise ValueError(f"A metric takes floating tensors in [0, 1], not {original.dtype} and {decoded.dtype}.")


@torch.no_grad()
def psnr(original: Tensor, decoded: Tensor) -> Tensor:
    """PSNR in dB of each picture, data range 1; infinite for equal pictures.

    Args:
        original, decoded: (B, 3, H, W) RGB in [0, 1].

    Returns:
        (B,) dB; average these over pictures, not the squared errors (evaluation protocol).
    """
    check_pair(original, decoded)
    precise = torch.float32 if original.is_mps else torch.float64  # Apple's GPUs have no float64
    mse = (original.to(precise) - decoded.to(precise)).square().mean((1, 2, 3))
    return (-10 * mse.log10()).to(torch.float32)


@torch.no_grad()
def ms_ssim(original: Tensor, decoded: Tensor) -> Tensor | None:
    """MS-SSIM on RGB (Wang et al., 2003): five scales, 11-tap Gaussian window with sigma 1.5.

    Args:
        original, decoded: (B, 3, H, W) RGB in [0, 1].

    Returns:
        (B,) in [0, 1], or `None` where a side has fewer than 176 pixels.
    """
    check_pair(original, decoded)
    if min(original.shape[-2:]) < SMALLEST_SIDES["ms_ssim"]:
        return None
    value = multiscale_structural_similarity_index_measure(
        decoded.float(), original.float(), sigma=1.5, kernel_size=11, data_range=1.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.reshape(-1)
