"""Sections of a configuration of an evaluation, as conf/ has them."""

from typing import Any

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


def pillow(*formats: str) -> dict[str, dict[str, Any]]:
    return {name: {"_target_": "glc_train.evaluation.PillowBaseline", "format": name} for name in formats}


def x26x(*names: str) -> dict[str, dict[str, Any]]:
    target = "glc_train.evaluation.X26xBaseline"
    return {name: {"_target_": target, "name": name, "intra_period": None} for name in names}
