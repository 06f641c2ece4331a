"""Distances between an original and a decoded picture; a value that could not be computed is `None`, never 0."""

from glc_train.metrics.fidelity import ms_ssim, psnr
from glc_train.metrics.inception import Inception2015, load_inception
from glc_train.metrics.patches import (
    PatchFeatures,
    check_patch_count,
    compare_distributions,
    count_patches,
    cut_patches,
)
from glc_train.metrics.perceptual import DISTS, LPIPS
from glc_train.metrics.pictures import SMALLEST_SIDES, TITLES, Metric, PictureMetrics

__all__ = [
    "DISTS",
    "LPIPS",
    "SMALLEST_SIDES",
    "TITLES",
    "Inception2015",
    "Metric",
    "PatchFeatures",
    "PictureMetrics",
    "check_patch_count",
    "compare_distributions",
    "count_patches",
    "cut_patches",
    "load_inception",
    "ms_ssim",
    "psnr",
]
