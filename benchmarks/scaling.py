"""What a picture, a clip and a training step cost as they grow, and how far that is from a straight line.

``python -m benchmarks.scaling`` runs ``glc compress`` and ``glc decompress`` (the installed codec on pictures, a small
video codec with random weights on clips) as processes of their own, start-up included, and training steps of the small
model. It writes a record and, beside it, a plot.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks import step
from benchmarks.measures import apart, model_config, peak_megabytes
from benchmarks.record import checked, machine_load, machine_options, record_path, write_record
from benchmarks.startup import started
from glc_train.data import render_clip, render_picture
from glc_train.files import replacing
from glc_train.media import write_picture
from glc_train.weights import build_video, save_codec

MEGAPIXELS, LARGE = (0.1, 0.4, 1.0, 2.0, 4.0, 8.3), (16.6, 33.2)  # 8.3: 4K, 33.2: 8K
FRAMES, BATCHES = (2, 4, 8, 16, 32), (1, 2, 4, 8, 16)
CLIP_SIZE, TILE = (144, 176), 512
# Of each sweep: what grows, and its unit.
SWEEPS = {"pixels": "Mpx", "frames": "frames", "batch": "crops of 128²"}
# Of each point, beside x; the processor's time suffers less from other programs.
KEYS = {"seconds": "seconds", "processor_seconds": "seconds of the processor", "peak_mb": "largest memory (MB)"}
Point = dict[str, float]


def line(points: Sequence[Point], key: str) -> dict[str, float]:
    """The straight line through values over x.

    Returns:
        `start` and `slope`, by least squares; `residual`, the largest distance of a value from the line, as a share of
        the largest value; `exponent`, of the growth of what is above the start from the middle to the end: 1 on a line.
    """
    x, y = (np.array([point[name] for point in points]) for name in ("x", key))
    slope, start = np.polyfit(x, y, 1)
    middle = len(x) // 2
    first, last = y[middle] - y[0], y[-1] - y[0]
    grown = math.log(last / first) / math.log((x[-1] - x[0]) / (x[middle] - x[0])) if min(first, last) > 0 else 0.0
    residual = np.abs(start + slope * x - y).max() / y.max()
    return {"start": float(start), "slope": float(slope), "residual": float(residual), "exponent": grown}


def _point(x: float, runs: Sequence[dict[str, float]]) -> Point:
    """The quickest of several runs, and their median memory."""
    memory = statistics.median(run["peak_mb"] for run in runs)
    return {
        "x": x,
        **{key: min(run[key] for run in runs) for key in ("seconds", "processor_seconds")},
        "peak_mb": memory,
    }


def _both_ways(x: float, rounds: int, paths: Sequence[Path], *more: str) -> Iterator[tuple[str, Point]]:
    """Codes the first of the paths into the second and decodes that into the third."""
    for name, (source, target) in zip(("compress", "decompress"), pairwise(paths), strict=True):
        command = [sys.executable, "-m", "glc_train", name, str(source), str(target), "--overwrite", *more]
        yield name, _point(x, [started(command) for _ in range(rounds)])


def pixels(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Point]]:
    """Pictures of 3:2 of up to 8.3 megapixels, or 33.2."""
    tile = render_picture(TILE, TILE, 0)  # a large picture of many: to render it takes longer than to code it
    for size in (*options.megapixels, *(LARGE if options.full else ())):
        height, width = round(math.sqrt(size * 1e6 / 1.5)), round(math.sqrt(size * 1.5e6))
        tiled = np.tile(tile, (-(-height // TILE), -(-width // TILE), 1))[:height, :width]
        write_picture(folder / "large.png", tiled)
        paths = [folder / name for name in ("large.png", "large.glc", "decoded.png")]
        yield from _both_ways(height * width / 1e6, options.rounds, paths, "--device", options.device)


def frames(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Point]]:
    """Clips of 176×144."""
    torch.manual_seed(0)
    config = {"image": model_config("small"), "transform": model_config("video/small")}
    weights = folder / "video.safetensors"
    save_codec(build_video(config), config, weights)
    clip = render_clip(*CLIP_SIZE, max(options.frames), 0)
    for count in options.frames:
        source = folder / f"{count}"
        source.mkdir()
        for number, frame in enumerate(clip[:count]):
            write_picture(source / f"{number:04}.png", frame)
        paths = [source, folder / "clip.glcv", folder / "clip.mp4"]
        yield from _both_ways(count, options.rounds, paths, "--weights", str(weights), "--device", options.device)


def _training(batch: int, threads: int, device: str) -> dict[str, float]:
    """Seconds of a step of stage I, of an ordinary size, and the largest memory."""
    torch.set_num_threads(threads)
    given = ["--experiment", "glc_image_small_cpu", "--device", device, "--set", "stages.autoencoder.picture.lpips=0"]
    config = step.configuration("autoencoder", step.parse(given))
    stage = step.build(config, "autoencoder", plain=False)
    side = config.stages.autoencoder.crop_size
    x = torch.rand(batch, 3, side, side) * 2 - 1
    taken: dict[str, float] = {}

    def train() -> None:
        timer = step.run_block(stage, x, 4, "32-true", device)
        taken.update({"seconds": min(timer.wall[1:]), "processor_seconds": min(timer.processor[1:])})

    memory = peak_megabytes(train, device)["peak_mb"] or 0
    return taken | {"peak_mb": memory}


def batch(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Point]]:
    """Training steps; their processes start with PyTorch, Lightning and the model in memory."""
    for size in options.batches:
        runs = [apart(_training, size, options.threads, options.device) for _ in range(options.rounds)]
        yield "training step", _point(size, runs)


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Points and lines of the sweeps, by sweep and command: all that are there after each point."""
    sweeps: dict[str, Callable[..., Iterator[tuple[str, Point]]]] = {"pixels": pixels, "frames": frames, "batch": batch}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="glc_train-") as scratch:
        for sweep in options.sweeps:
            folder = Path(scratch, sweep)
            folder.mkdir()
            series: dict[str, list[Point]] = {}
            for name, point in sweeps[sweep](folder, options):
                series.setdefault(name, []).append(point)
                x, unit = f"{point['x']:.3g}", SWEEPS[sweep]
                print(
                    f"{name:14} {x:>5} {unit}: {point['seconds']:.2f} s, "
                    f"{point['processor_seconds']:.2f} s of processor, {point['peak_mb']:.0f} MB",
                    flush=True,
                )
            for name, points in series.items():
                lines = {key: line(points, key) for key in KEYS}
                results.setdefault(sweep, {})[name] = {"points": points, **lines}
            yield results


def plot(results: dict[str, Any], path: Path) -> None:
    """A picture with a column for each sweep, and below each other times and memory with the lines through them."""
    figure = Figure(figsize=(4.2 * len(results), 3.1 * len(KEYS)), layout="constrained")
    panels = figure.subplots(len(KEYS), len(results), squeeze=False)
    for column, (sweep, series) in enumerate(results.items()):
        for row, (key, label) in enumerate(KEYS.items()):
            axes = panels[row, column]
            for number, (name, found) in enumerate(series.items()):
                x, fit = np.array([point["x"] for point in found["points"]]), found[key]
                text = f"{name}: {fit['slope']:.3g} per unit, off by {fit['residual']:.0%}"
                axes.plot(x, [point[key] for point in found["points"]], "o", color=f"C{number}", label=text)
                axes.plot(x, fit["start"] + fit["slope"] * x, "-", color=f"C{number}", linewidth=1)
            axes.set(xlabel=SWEEPS[sweep], ylabel=label, title=sweep if row == 0 else None)
            axes.set_ylim(0, 1.25 * axes.dataLim.ymax)  # with room for the legend
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7, loc="upper left")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS), metavar="SWEEP", help="of "
                        + ", ".join(SWEEPS))  # fmt: skip
    parser.add_argument("--megapixels", nargs="+", type=float, default=MEGAPIXELS, metavar="M", help="of the pictures")
    parser.add_argument("--full", action="store_true", help="also pictures of 16.6 and 33.2 megapixels: minutes each")
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES, metavar="N", help="of the clips")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N", help="of the training steps")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each point (default 1)")
    machine_options(parser)
    options = checked(parser, parser.parse_args(arguments), rounds=1)
    if any(len(set(values)) < 3 for values in (options.megapixels, options.frames, options.batches)):
        parser.error("a sweep needs three sizes or more: two always lie on a line")
    if min(*options.megapixels, *options.frames, *options.batches) <= 0:
        parser.error("pictures, clips and batches must be larger than nothing")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all sweeps; writes the record and the plot after each."""
    options = parse(arguments)
    load = machine_load()
    path = record_path(options, "scaling")
    for results in measure(options):
        write_record(options, "scaling", load, results)
        plot(results, path.with_suffix(".png"))
    for sweep, series in results.items():
        for name, found in series.items():
            for key, unit in KEYS.items():
                fit = found[key]
                print(
                    f"{name:14} over {sweep:6}, {unit}: {fit['start']:.3g} + {fit['slope']:.3g} per {SWEEPS[sweep]}, "
                    f"at most {fit['residual']:.0%} off, growing as x^{fit['exponent']:.2f}"
                )


if __name__ == "__main__":
    main()
