"""What `--effort` buys: pictures coded into the same bytes with more and more of it, through files.

``python -m benchmarks.effort FOLDER OUT`` evaluates each effort (`evaluate.py`, into OUT/e0, OUT/e1, …) and writes the
means into OUT/effort.json and OUT/effort.png. An evaluation that was killed goes on where it was; one whose
results.json is there is not repeated.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from benchmarks.record import machine_load
from glc_train import provenance
from glc_train.effort import HIGHEST_EFFORT, STEPS
from glc_train.evaluation import EvaluationSettings, run_evaluation
from glc_train.files import replacing, write_text
from glc_train.media import find_pictures

ROOT = Path(__file__).resolve().parents[1]
_PANELS = {
    "lpips": "LPIPS ↓",
    "dists": "DISTS ↓",
    "psnr": "PSNR (dB) ↑",
    "ms_ssim": "MS-SSIM ↑",
    "encode_seconds": "seconds to encode",
}


def measure(options: argparse.Namespace, effort: int, pictures: Path) -> dict[str, Any]:
    """Means over the pictures with one effort."""
    out = options.out / f"e{effort}"
    if not (out / "results.json").exists():
        overrides = [
            "data=folder", f"data.test.root={pictures}", f"rates=[{options.rate}]", f"effort={effort}", f"out={out}",
            f"metrics=[{','.join(options.metrics)}]", f"device={options.device}", "dtype=float32", "progress=false",
            *options.set,
        ]  # fmt: skip
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            run_evaluation(EvaluationSettings.from_config(compose("evaluate", overrides)))
    results, timings = (json.loads((out / f"{name}.json").read_text()) for name in ("results", "timings"))
    (means,) = results["codecs"]["GLC"]["means"]
    seconds = [each["encode_seconds"] for each in timings["codecs"]["GLC"]["pictures"]]
    kept = {name: means[name] for name in ("pictures", "bpp", *_PANELS) if means.get(name) is not None}
    return {"effort": effort, "steps": STEPS[effort], **kept, "encode_seconds": statistics.mean(seconds)}


def plot(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """A panel for each measure, over effort."""
    known = [name for name in _PANELS if name in rows[0]]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(2.6 * len(known), 2.8), layout="constrained")
        for place, name in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
            place.plot([row["effort"] for row in rows], [row[name] for row in rows], "o-", color="#0072B2")
            place.set(xlabel="effort", title=_PANELS[name], xticks=[row["effort"] for row in rows])
            place.grid(alpha=0.3)
        figure.suptitle(title)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effort", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="pictures")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for results")
    every = [*range(HIGHEST_EFFORT + 1)]
    parser.add_argument("--efforts", type=int, nargs="+", choices=every, default=every, metavar="N")
    parser.add_argument("--rate", type=float, default=0.04, help="bits per pixel, the most of each picture (0.04)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th picture, the K-th first")
    parser.add_argument("--metrics", nargs="*", default=["psnr", "ms_ssim", "lpips", "dists"], metavar="NAME")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="more options of evaluate.py")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    options, load = parse(arguments), machine_load()
    torch.set_num_threads(options.threads)
    options.out = options.out.resolve()
    chosen = find_pictures(options.folder)[options.every - 1 :: options.every]
    pictures = options.out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        if not (pictures / path.name).exists():
            os.symlink(path.resolve(), pictures / path.name)
    rows: list[dict[str, Any]] = []
    for effort in options.efforts:
        row = measure(options, effort, pictures)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        rows = sorted([*rows, row], key=lambda row: int(row["effort"]))
        record = {
            "command": provenance.command(),
            "commit": provenance.commit(),
            "date": provenance.now(),
            "hardware": provenance.hardware("cuda" if torch.cuda.is_available() else "cpu"),
            "load_at_start": load,
            "pictures": [path.name for path in chosen],
            "target_bpp": options.rate,
            "efforts": rows,
        }
        write_text(options.out / "effort.json", json.dumps(record, indent=1) + "\n")
        plot(rows, f"{len(chosen)} pictures of at most {options.rate:g} bpp", options.out / "effort.png")


if __name__ == "__main__":
    main()
