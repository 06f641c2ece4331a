"""Distances between an original and a decoded picture; a value that could not be computed is `None`, never 0."""

from glc_train.metrics.fidelity import ms_ssim, psnr
from glc_train.metrics.flicker import flicker, signed_error
from glc_train.metrics.inception import Inception2015, load_inception
from glc_train.metrics.patches import (
    PatchFeatures,
    check_patch_count,
    compare_distributions,
    count_patches,
    cut_patches,
    distribution_sources,
)
from glc_train.metrics.perceptual import DISTS, LPIPS
from glc_train.metrics.pictures import SMALLEST_SIDES, TITLES, ClipMetric, ClipScores, Metric, PictureMetrics
from glc_train.metrics.sources import MetricSource, source_of
from glc_train.metrics.vmaf import VMAF

__all__ = [
    "DISTS",
    "LPIPS",
    "SMALLEST_SIDES",
    "TITLES",
    "VMAF",
    "ClipMetric",
    "ClipScores",
    "Inception2015",
    "Metric",
    "MetricSource",
    "PatchFeatures",
    "PictureMetrics",
    "check_patch_count",
    "compare_distributions",
    "count_patches",
    "cut_patches",
    "distribution_sources",
    "flicker",
    "load_inception",
    "ms_ssim",
    "psnr",
    "signed_error",
    "source_of",
]
