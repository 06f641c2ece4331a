"""A whole evaluation: find the pictures, measure the codec and its baselines, compare, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from glc_train.data import find_pictures, packaged_pictures
from glc_train.evaluation.baselines import PillowBaseline
from glc_train.evaluation.comparison import as_curve, compare
from glc_train.evaluation.curves import load_published
from glc_train.evaluation.grid import write_picture_grid
from glc_train.evaluation.plots import has_metric, plot_rate_distortion
from glc_train.evaluation.results import (
    CodecResults,
    EvaluationError,
    write_csv,
    write_json,
)
from glc_train.evaluation.runner import Codec, evaluate_codec
from glc_train.evaluation.settings import EvaluationSettings
from glc_train.evaluation.table import COLUMNS, print_means
from glc_train.metrics import PatchDistribution, PictureMetrics, check_patch_count, load_inception
from glc_train.weights import load_codec, pretrained_weights


def _pictures(settings: EvaluationSettings) -> list[Path]:
    data = settings.data
    root, expected = data.get("root"), data.get("expected")
    if root is None and not data.get("packaged", False):
        raise EvaluationError(f"The folder of {data['name']} is not known: give data.root=FOLDER.")
    pictures = packaged_pictures("test") if root is None else find_pictures(root)
    if expected is not None and len(pictures) != expected:
        raise EvaluationError(
            f"{root} holds {len(pictures)} pictures and {data['name']} has {expected}: "
            "complete it, or evaluate it with data=folder."
        )
    if settings.limit is not None and settings.limit < 1:
        raise EvaluationError(f"limit={settings.limit} leaves no picture: give 1 or more.")
    return pictures[: settings.limit]


def _print(codecs: Sequence[CodecResults], bd_rates: Sequence[dict[str, Any]], title: str) -> None:
    console = print_means(codecs, title)
    refused = []
    for entry in bd_rates:
        what = f"{COLUMNS[entry['metric']]} against {entry['anchor']}"
        if entry["percent"] is None:
            refused.append(what)
        else:
            console.print(f"BD-rate at equal {what}: {entry['percent']:+.1f}% (overlap {100 * entry['share']:.0f}%)")
    if refused:
        console.print(f"No BD-rate for {', '.join(refused)}: results.json says why.")


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
    out, data = Path(settings.out), settings.data
    pictures = _pictures(settings)
    published = load_published(data["published"]) if data.get("published") else []
    if codec is None:
        settings = replace(settings, ckpt=settings.ckpt or str(pretrained_weights()))
        codec = load_codec(settings.ckpt, device=settings.torch_device, dtype=settings.dtype)
    qualities = list(range(codec.quality_levels)) if settings.qualities is None else list(settings.qualities)
    metrics = PictureMetrics(settings.metrics, settings.torch_device)
    new_patches = _new_patches(settings)
    shared: dict[str, Any] = {
        "save_pictures": settings.save_pictures,
        "new_patches": new_patches,
        "progress": settings.progress,
    }
    ours = evaluate_codec(codec, pictures, qualities, out, metrics, name="GLC", **shared)
    if new_patches and settings.limit is None:
        for mean in ours.means:
            check_patch_count(data["name"], mean.patches or 0, settings.patch_size)
    all_results = [ours]
    targets = [mean.bpp for mean in ours.means if mean.bpp is not None]
    for name in settings.baselines:
        baseline = PillowBaseline(name, targets=targets)
        levels = range(baseline.quality_levels)
        folder = out / "baselines" / name
        results = evaluate_codec(baseline, pictures, levels, folder, metrics, name=name, suffix=f".{name}", **shared)
        all_results.append(results)
    curves = [as_curve(each) for each in all_results]
    bd_rates = compare(curves[0], [*published, *curves[1:]])
    write_json(out / "results.json", settings.facts(), all_results, bd_rates)
    write_csv(out / "results.csv", all_results)
    title = f"{data['name']}, {len(pictures)} pictures"
    if has_metric(curves):
        plot_rate_distortion(curves, published, out / "rate_distortion.png", title)
    if settings.save_pictures:
        write_picture_grid(pictures, ours, out / "decoded", out / "pictures.png")
    _print(all_results, bd_rates, title)
    return all_results
