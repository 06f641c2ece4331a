"""What every benchmark writes beside its figures, and how repeated figures are summed up."""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glc_train import provenance
from glc_train.files import write_text

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine_load() -> float | None:
    """Processes that wanted a core over the last minute, at the start: what else ran; None where unknown."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def write_record(
    path: Path, device: str, load: float | None, options: Mapping[str, Any], results: Mapping[str, Any]
) -> None:
    """Writes a JSON file: command, commit, hardware, date, load, options and results."""
    content = {
        "command": provenance.command(),
        "commit": provenance.commit(),
        "date": provenance.now(),
        "hardware": provenance.hardware(device),
        "torch": str(torch.__version__),
        "load_at_start": load,
        "options": dict(options),
        "results": dict(results),
    }
    write_text(path, json.dumps(content, indent=1, default=str, allow_nan=False) + "\n")
    print(f"written to {path}")
