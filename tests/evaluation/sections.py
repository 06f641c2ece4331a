"""Sections of a configuration of an evaluation, as conf/ has them."""

from typing import Any

from glc_train.codec_groups import baseline_sections

METRICS: dict[str, dict[str, Any]] = {
    "psnr": {"_target_": "glc_train.metrics.psnr", "_partial_": True},
    "ms_ssim": {"_target_": "glc_train.metrics.ms_ssim", "_partial_": True},
}


def pictures(root: object, **options: Any) -> dict[str, Any]:
    return {"_target_": "glc_train.evaluation.Pictures", "name": "folder", "root": str(root)} | options


def clips(root: object, **options: Any) -> dict[str, Any]:
    return {"_target_": "glc_train.evaluation.Clips", "name": "video", "root": str(root)} | options


def metrics(*names: str) -> dict[str, dict[str, Any]]:
    return {name: METRICS[name] for name in names}


def baselines(*names: str) -> dict[str, dict[str, Any]]:
    sections = baseline_sections()
    return {name: sections[name] for name in names}
