"""What every benchmark writes beside its figures, and how repeated figures are summed up."""

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glc_train import provenance
from glc_train.files import write_text
from glc_train.precision import choose

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")  # of a processor's instructions


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine_load() -> float | None:
    """Processes that wanted a core over the last minute, at the start: what else ran; None where unknown."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def machine_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every benchmark asks of the machine, and where its record goes."""
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file (default below results/benchmarks)")


def checked(parser: argparse.ArgumentParser, options: argparse.Namespace, **least: int) -> argparse.Namespace:
    """The options, once they are no less than `least` (threads: 1) and the device is there; else exits with 2."""
    for name, bound in {"threads": 1, **least}.items():
        if getattr(options, name) < bound:
            parser.error(f"--{name} must be {bound} or more")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    return options


def record_path(options: argparse.Namespace, name: str) -> Path:
    """Where the record goes: to `--out`, or after `name`."""
    return options.out or RESULTS / f"{name}_{options.device}.json"


def write_record(options: argparse.Namespace, name: str, load: float | None, results: Mapping[str, Any]) -> None:
    """Writes a JSON file to `record_path`: command, commit, hardware and its features, date, load, options, results."""
    path = record_path(options, name)
    content = {
        "command": provenance.command(),
        "commit": provenance.commit(),
        "date": provenance.now(),
        "hardware": provenance.hardware(options.device),
        "features": f"{torch.backends.cpu.get_cpu_capability()}; {choose(options.device).reason}",
        "limits": {name: os.environ[name] for name in _LIMITS if name in os.environ},
        "torch": str(torch.__version__),
        "load_at_start": load,
        "options": {key: value for key, value in vars(options).items() if key != "out"},
        "results": dict(results),
    }
    write_text(path, json.dumps(content, indent=1, default=str, allow_nan=False) + "\n")
    print(f"written to {path}")
