"""A whole evaluation: find the pictures, measure the codec and its baselines, compare, write the report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from glc_train.data import find_pictures, packaged_pictures, read_picture
from glc_train.evaluation.baselines import PillowBaseline
from glc_train.evaluation.curves import load_published
from glc_train.evaluation.grid import write_picture_grid
from glc_train.evaluation.inputs import labels, readable
from glc_train.evaluation.output import claim_folder
from glc_train.evaluation.report import write_report
from glc_train.evaluation.results import CodecResults, EvaluationError, LeftOut
from glc_train.evaluation.runner import Codec, evaluate_codec
from glc_train.evaluation.settings import DataSettings, EvaluationSettings, check_qualities
from glc_train.metrics import PatchDistribution, PictureMetrics, check_patch_count, load_inception
from glc_train.weights import load_codec, pretrained_weights


def _found(data: DataSettings) -> list[Path]:
    if data.packaged and data.root is None:
        return packaged_pictures("test")
    pictures = find_pictures(data.folder())
    labels(pictures)  # two of one name are refused before the work
    _check_count(data, len(pictures))
    return pictures


def _check_count(data: DataSettings, count: int) -> None:
    if data.expected is not None and count != data.expected:
        raise EvaluationError(
            f"{data.root} holds {count} pictures and {data.name} has {data.expected}: complete it, or evaluate it with "
            "data=folder."
        )


def _readable(settings: EvaluationSettings, found: list[Path]) -> tuple[list[Path], tuple[LeftOut, ...]]:
    pictures, left_out = readable(found, read_picture, lambda path: path.name, settings)
    if left_out:
        _check_count(settings.data, len(found) - len(left_out))
    return pictures, left_out


def _new_patches(settings: EvaluationSettings) -> partial[PatchDistribution] | None:
    if settings.inception is None:
        return None
    network = load_inception(settings.inception)
    return partial(PatchDistribution, network, size=settings.patch_size, device=settings.torch_device)


def run_evaluation(settings: EvaluationSettings, codec: Codec | None = None) -> list[CodecResults]:
    """Evaluate and write ``results.json``, ``results.csv``, ``rate_distortion.png``, ``pictures.png`` and the files.

    Args:
        settings: what to evaluate.
        codec: evaluated instead of the one in ``settings.ckpt`` (``None``: the weights of the installation).

    Raises:
        EvaluationError, PictureError, BackboneError: each with a sentence that says what to change.
    """
    data = settings.data
    for name in settings.baselines:
        PillowBaseline(name, targets=[])  # an unknown one is refused before the work
    found = _found(data)
    published = load_published(data.published) if data.published else []
    if codec is None:
        settings = replace(settings, ckpt=settings.ckpt or str(pretrained_weights()))
        codec = load_codec(settings.ckpt, device=settings.torch_device, dtype=settings.dtype)
    facts = settings.facts()
    qualities = list(range(codec.quality_levels)) if settings.qualities is None else settings.qualities
    check_qualities(qualities, codec.quality_levels)
    metrics = PictureMetrics(settings.metrics, settings.torch_device)
    new_patches = _new_patches(settings)
    pictures, left_out = _readable(settings, found)
    out = claim_folder(settings, facts)
    shared: dict[str, Any] = {
        "save_pictures": settings.save_pictures,
        "new_patches": new_patches,
        "progress": settings.progress,
    }
    ours = evaluate_codec(codec, pictures, qualities, out, metrics, name="GLC", **shared)
    if new_patches and settings.limit is None:
        for mean in ours.means:
            check_patch_count(data.name, mean.patches or 0, settings.patch_size)
    all_results = [ours]
    targets = [mean.bpp for mean in ours.means if mean.bpp is not None]
    for name in settings.baselines:
        baseline = PillowBaseline(name, targets=targets)
        levels = range(baseline.quality_levels)
        folder = out / "baselines" / name
        results = evaluate_codec(baseline, pictures, levels, folder, metrics, name=name, suffix=f".{name}", **shared)
        all_results.append(results)
    write_report(out, replace(facts, left_out=left_out), all_results, published, settings.metrics, "pictures")
    if settings.save_pictures:
        write_picture_grid(pictures, ours, out / "decoded", out / "pictures.png")
    return all_results
