"""Distances between an original and a decoded picture; a value that could not be computed is ``None``, never 0."""

from glc_train.metrics.fidelity import ms_ssim, psnr
from glc_train.metrics.inception import Inception2015, load_inception
from glc_train.metrics.patches import (
    EXPECTED_PATCHES,
    PatchDistribution,
    check_patch_count,
    count_patches,
    cut_patches,
)
from glc_train.metrics.perceptual import DISTS, LPIPS
from glc_train.metrics.pictures import METRIC_NAMES, SMALLEST_SIDES, PictureMetrics, PictureScores

__all__ = [
    "DISTS",
    "EXPECTED_PATCHES",
    "LPIPS",
    "METRIC_NAMES",
    "SMALLEST_SIDES",
    "Inception2015",
    "PatchDistribution",
    "PictureMetrics",
    "PictureScores",
    "check_patch_count",
    "count_patches",
    "cut_patches",
    "load_inception",
    "ms_ssim",
    "psnr",
]
