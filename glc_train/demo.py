"""`make demo`: the installed codec on photographs, then its decoder fine-tuned on another kind of picture."""

from __future__ import annotations

from glc_train import extras, interruption

if __name__ == "__main__":
    interruption.leave_at_once()  # the imports take seconds
    extras.leave_without("train", "the demo")

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from glc_train.codecs import ImageCodec
from glc_train.data import packaged_pictures, write_panel
from glc_train.errors import is_for_user
from glc_train.evaluation import Baseline, load_baseline
from glc_train.media import read_picture, write_picture
from glc_train.metrics import LPIPS, PictureMetrics, psnr
from glc_train.training import run_recipe, unwind
from glc_train.weights import installed, load_codec

CONF = Path(__file__).resolve().parents[1] / "conf"
STEPS = 200
# What a picture at one quality and a training step take on two cores with AVX2, so that the time left is about right.
CODING_SECONDS = 2.0
STEP_SECONDS = 0.8
PHOTOGRAPHS_BOUND = 0.30
"""Largest mean LPIPS of the installed codec on the photographs, over all qualities."""
GAIN_BOUND = 0.05
"""Least share of the mean LPIPS by which training has to lower it on the held-out half."""


class DemoError(RuntimeError):
    """What the demo made is worse than it has to be."""


@dataclass(frozen=True)
class Coded:
    """A picture through the bytes of a file.

    Attributes:
        picture: its name.
        quality: of the codec.
        size: of the file in bytes.
        bpp: bits of the file per pixel.
        decoded: uint8 (H, W, 3).
        psnr: in dB.
        lpips: from 0, which is equal.
    """

    picture: str
    quality: int
    size: int
    bpp: float
    decoded: np.ndarray
    psnr: float
    lpips: float


def code_all(
    codec: ImageCodec | Baseline,
    qualities: Iterable[int],
    pictures: Mapping[str, np.ndarray],
    metrics: PictureMetrics,
    tick: Callable[[float], None],
) -> list[Coded]:
    """Codes, decodes and measures pictures uint8 (H, W, 3) at `qualities`; `tick` is told expected seconds."""
    results = []
    for name, picture in pictures.items():
        for quality in qualities:
            data = codec.compress(picture, quality)
            decoded = codec.decompress(data)
            scores = metrics.measure(picture, decoded)
            bpp = 8 * len(data) / (picture.shape[0] * picture.shape[1])
            psnr, lpips = scores["psnr"], scores["lpips"]
            if psnr is None or lpips is None:
                raise DemoError(f"{name} at quality {quality} has no figures: the decoded picture is not one.")
            results.append(Coded(name, quality, len(data), bpp, decoded, psnr, lpips))
            tick(CODING_SECONDS)
    return results


class _Ticks(Callback):
    """Tells the demo's bar of each training step."""

    def __init__(self, tick: Callable[[float], None]) -> None:
        self.tick = tick

    def on_train_batch_end(self, *_: Any) -> None:
        """One step is done."""
        self.tick(STEP_SECONDS)


def train_on(folder: Path, held_out: Path, out: Path, steps: int, tick: Callable[[float], None]) -> Path:
    """Runs `experiment=finetune` for a number of steps; returns the weights.

    Raises:
        DemoError: this is no checkout of the project, which has the configuration.
        TrainingError, BackboneError: see `run_recipe`.
    """
    if not CONF.is_dir():
        raise DemoError(f"{CONF} is missing: training needs a clone of the repository.")
    fixed = [
        "experiment=finetune",
        f"stages.joint.steps={steps}",
        f"stages.joint.val_every={steps}",
        "trainer.enable_progress_bar=false",
        "trainer.enable_model_summary=false",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=fixed)
    places = {"init_from": installed("image"), "data.train.root": folder, "data.val": held_out, "out": out}
    for option, path in places.items():  # not among the overrides, where some signs mean something
        OmegaConf.update(config, option, str(path))
    return run_recipe(config, [_Ticks(tick)])


def split_slide(out: Path) -> tuple[Path, Path]:
    """Writes the left half of the packaged histology slide to train on, and the right half to test with.

    Returns:
        Their folders. The installed codec has been trained on photographs, none of them through a microscope.
    """
    slide = read_picture(next(path for path in packaged_pictures("train") if path.stem == "ihc"))
    half = slide.shape[1] // 2
    folders = out / "train", out / "held_out"
    for folder, part in zip(folders, (slide[:, :half], slide[:, half:]), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        write_picture(folder / "slide.png", part)
    return folders


def figures(title: str, columns: Mapping[str, Sequence[Coded]]) -> Table:
    """A table of means over pictures, a row for each quality, and for each of `columns` LPIPS and PSNR."""
    table = Table("quality", "bytes", "bits per pixel", *(f"{name}: LPIPS ↓, PSNR" for name in columns), title=title)
    first, *_ = columns.values()
    for quality in sorted({each.quality for each in first}):
        rows = [[each for each in results if each.quality == quality] for results in columns.values()]
        cost = f"{mean(each.size for each in rows[0]):.0f}", f"{mean(each.bpp for each in rows[0]):.4f}"
        scores = (f"{mean(c.lpips for c in row):.3f}, {mean(c.psnr for c in row):.1f} dB" for row in rows)
        table.add_row(str(quality), *cost, *scores)
    return table


def draw_photographs(
    path: Path, pictures: Mapping[str, np.ndarray], ours: Sequence[Coded], webp: Sequence[Coded]
) -> None:
    """A row for each photograph: the original, every quality, and the smallest WebP."""
    rows = []
    for name, picture in pictures.items():
        row = [(picture, f"{name}, original")]
        for label, results in (
            ("GLC, {} bytes, LPIPS {:.3f}", ours),
            ("WebP's smallest, {} bytes, LPIPS {:.3f}", webp),
        ):
            row += [(c.decoded, label.format(c.size, c.lpips)) for c in results if c.picture == name]
        rows.append(row)
    write_panel(path, rows)


def draw_slide(path: Path, original: np.ndarray, before: Sequence[Coded], after: Sequence[Coded]) -> None:
    """A row for the lowest and the highest quality: the original, the installed codec, and the fine-tuned one."""
    rows = []
    for one, other in ((before[0], after[0]), (before[-1], after[-1])):
        rows.append(
            [
                (original, "held-out half, original"),
                (one.decoded, f"installed, {one.size} bytes, LPIPS {one.lpips:.3f}"),
                (other.decoded, f"fine-tuned, {other.size} bytes, LPIPS {other.lpips:.3f}"),
            ]
        )
    write_panel(path, rows, cell_width=512)


def check_photographs(results: Sequence[Coded]) -> None:
    """Raises DemoError where the installed codec does worse here than it must."""
    found = mean(each.lpips for each in results)
    if found > PHOTOGRAPHS_BOUND:
        raise DemoError(
            f"the installed codec has LPIPS {found:.3f} on the photographs, and at most {PHOTOGRAPHS_BOUND} is right."
        )


def check_training(before: Sequence[Coded], after: Sequence[Coded]) -> None:
    """Raises DemoError where training did not bring the held-out half nearer to the original."""
    old, new = (mean(each.lpips for each in results) for results in (before, after))
    if new > (1 - GAIN_BOUND) * old:
        raise DemoError(
            f"training brought LPIPS on the held-out half from {old:.3f} to {new:.3f}, and a fall of at least "
            f"{GAIN_BOUND:.0%} is right."
        )


@contextmanager
def _bar(console: Console, seconds: float) -> Iterator[Callable[[float], None]]:
    """One bar over the whole demo, with the time left; gives what moves it on by some of the expected seconds."""
    columns = (TextColumn("demo"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=60) as bar:
        task = bar.add_task("", total=seconds)
        yield lambda done: bar.advance(task, done)


def run(out: Path, steps: int, console: Console) -> None:
    """The whole demo; writes everything below `out`. Raises DemoError, and what training and metrics raise."""
    codec, metrics = load_codec(dtype="auto"), PictureMetrics({"psnr": psnr, "lpips": LPIPS()})
    levels = range(codec.quality_levels)
    photographs = {path.stem: read_picture(path) for path in packaged_pictures("test")}
    codings = len(photographs) * (codec.quality_levels + 1) + 2 * codec.quality_levels
    with _bar(console, codings * CODING_SECONDS + steps * STEP_SECONDS) as tick:
        console.print("1. The installed codec on photographs that it has never seen")
        ours = code_all(codec, levels, photographs, metrics, tick)
        webp = code_all(load_baseline("webp"), [0], photographs, metrics, tick)  # as few bytes as it can
        draw_photographs(out / "photographs.png", photographs, ours, webp)
        console.print(figures("Means of the four photographs", {"GLC": ours}))
        smallest = mean(each.bpp for each in webp)
        console.print(
            f"The original has 24 bits per pixel; WebP cannot go below {smallest:.3f} here (LPIPS "
            f"{mean(each.lpips for each in webp):.3f}). LPIPS says how different two pictures look, from 0, which is "
            "equal.\n"
        )
        check_photographs(ours)
        console.print(f"2. {steps} training steps on the left half of a microscope slide; the right half is held out")
        if (out / "joint").is_dir():
            console.print(f"(going on with what an earlier demo left in {out / 'joint'}; delete that to start afresh)")
        folder, held_out = split_slide(out)
        weights = train_on(folder, held_out, out, steps, tick)
        console.print(f"weights: {weights}\n")
        console.print("3. The held-out half, before and after, at the same bytes")
        slide = {"slide": read_picture(held_out / "slide.png")}
        tuned = load_codec(weights, dtype="auto")
        before, after = (code_all(each, levels, slide, metrics, tick) for each in (codec, tuned))
    draw_slide(out / "slide.png", slide["slide"], before, after)
    console.print(figures("The held-out half", {"installed": before, "fine-tuned": after}))
    check_training(before, after)
    console.print(
        "That is what a few steps on half a slide bring; more pictures and more steps bring more.\n"
        f"done: look at {out / 'photographs.png'} and {out / 'slide.png'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code: 1 where what it made is worse than a stated bound, or input is missing."""
    parser = argparse.ArgumentParser(prog="python -m glc_train.demo", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/demo"), metavar="FOLDER", help="default: outputs/demo"
    )
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"of training; default: {STEPS}")
    args = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    plain = RichHandler(console=console, show_time=False, show_level=False, show_path=False)  # above the bar
    logging.basicConfig(format="%(message)s", handlers=[plain])
    logging.getLogger("glc_train.precision").setLevel(logging.INFO)  # what was chosen, and why
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    unwind()
    try:
        run(args.out, args.steps, console)
    except Exception as error:
        if not is_for_user(error):
            raise
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
