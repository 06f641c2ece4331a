"""Curves out of files: our `results.json`, and the results of CompressAI's evaluations, which are written too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glc_train.evaluation.curves import RATES, Curve, curve_of_means, is_number
from glc_train.evaluation.results import EvaluationError
from glc_train.files import write_text

_TO_COMPRESSAI = {"psnr": "psnr-rgb", "ms_ssim": "ms-ssim-rgb"}
_FROM_COMPRESSAI = {name: ours for ours, name in _TO_COMPRESSAI.items()} | {"psnr": "psnr", "ms-ssim": "ms_ssim"}
_TIMES = {"encoding_time", "decoding_time"}


@dataclass(frozen=True)
class ResultFile:
    """What a file of results has: the data set, where it says so, and a curve for each codec."""

    path: Path
    dataset: str | None
    curves: tuple[Curve, ...]


def read_results(path: Path) -> ResultFile:
    """Read a `results.json`, named itself or by its folder, or a file of CompressAI's `eval_model` or `bench`.

    Raises:
        EvaluationError: it is neither.
        OSError: it cannot be read.
    """
    path = path / "results.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "codecs" in content:
            curves, dataset = _curves(content["codecs"]), str(content["dataset"])
        else:
            curves, dataset = [_from_compressai(content, path)], None
        if not curves or not all(point["bpp"] > 0 for curve in curves for point in curve.points):
            raise ValueError("no rates")
        return ResultFile(path, dataset, tuple(curves))
    except EvaluationError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EvaluationError(
            f"{path} holds no results: give a results.json of evaluate.py, or a file of CompressAI's evaluation."
        ) from error


def _curves(codecs: Mapping[str, Any]) -> list[Curve]:
    curves = []
    for name, codec in codecs.items():
        clips = codec.get("sequences", {}).values()
        curves.append(curve_of_means(name, codec["means"], (row["frames"] for clip in clips for row in clip.values())))
    return curves


def _from_compressai(content: Mapping[str, Any], path: Path) -> Curve:
    results = {str(name): list(values) for name, values in content["results"].items()}
    names = {name: _FROM_COMPRESSAI.get(name, name.replace("-", "_")) for name in results if name not in _TIMES}
    if {len(values) for values in results.values()} != {len(results["bpp"])}:
        raise EvaluationError(f"{path} has lists of different lengths: evaluate again.")
    points = (
        {names[name]: results[name][number] for name in names if is_number(results[name][number])}
        for number in range(len(results["bpp"]))
    )
    description = str(content.get("description", ""))
    rates = [key for key, words in (RATES | {"estimated": "estimat"}).items() if words in description]
    rate = rates[0] if rates else "strings"
    return Curve(str(content["name"]), tuple(points), rate, note=description)


def write_compressai(curve: Curve, path: Path) -> None:
    """Write a curve as CompressAI's evaluations write theirs: lists by rising rate, of what all points have."""
    points = sorted(curve.points, key=lambda point: point["bpp"])
    names = [name for name in ("bpp", *curve.metrics) if all(name in point for point in points)]
    content = {
        "name": curve.name,
        "description": f"glc_train, {RATES[curve.rate]}",
        "results": {_TO_COMPRESSAI.get(name, name): [point[name] for point in points] for name in names},
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
