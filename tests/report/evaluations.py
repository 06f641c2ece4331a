"""Folders as evaluations leave them, made by code: results.json, pictures or clips, and details."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glc_train.media import ClipInfo, write_clip

TITLES = {"lpips": "LPIPS ↓", "psnr": "PSNR (dB) ↑"}
CURVES = [{"name": "Paper", "points": [{"bpp": 0.02, "lpips": 0.3}, {"bpp": 0.2, "lpips": 0.1}], "note": "Fig. 1"}]
DETAILS: dict[str, Any] = {
    "bytes": 500, "header": 10, "z": 40.5, "passes": [200, 120, 80, 48.5], "symbols": [[-1, 30], [0, 900], [1, 25]],
    "cell": 16, "map": [[1.0, 2.0, 0.5, 0.1], [4.0, 0.0, 0.5, 8.0], [1.0, 1.0, 1.0, 1.0]],
}  # fmt: skip
HEIGHT, WIDTH, FRAMES = 48, 64, 5


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Coloured noise, coarse enough to be told apart by eye."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def row(codec: str, name: str, quality: int, place: int) -> dict[str, Any]:
    figures = {
        "bytes": 500 + 100 * quality + place,
        "bpp": 0.05 * (1 + quality),
        "lpips": 0.3 - 0.1 * quality + 0.01 * place,
    }
    return {
        "codec": codec,
        "picture": name,
        "quality": quality,
        "height": HEIGHT,
        "width": WIDTH,
        **figures,
        "psnr": 20.0 + quality - place,
    }


def write_results(folder: Path, codecs: dict[str, Any], **facts: Any) -> Path:
    facts = {"schema": 1, "dataset": "small", "command": "python evaluate.py out=here", "commit": "abc1234"} | facts
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({**facts, "codecs": codecs}), "utf-8")
    return folder / "results.json"


def pictures_evaluation(folder: Path, names: tuple[str, ...] = ("a1", "a2", "a10"), **facts: Any) -> Path:
    """Of two qualities, with a baseline."""
    codecs = {}
    for codec, place in (("GLC", folder), ("webp", folder / "baselines" / "webp")):
        rows = [row(codec, name, quality, k) for k, name in enumerate(names) for quality in range(2)]
        means = [
            {
                "quality": q,
                "pictures": len(names),
                "bpp": 0.05 * (1 + q),
                "lpips": 0.31 - 0.1 * q,
                "psnr": 19.0 + q,
                "fid": None,
            }
            for q in range(2)
        ]
        codecs[codec] = {"means": means, "pictures": rows}
        for each in rows:
            file = place / "decoded" / f"q{each['quality']}" / f"{each['picture']}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(each["quality"])).save(file)
    for number, name in enumerate(names):
        file = folder / "originals" / f"{name}.webp"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(100 + number)).save(file)
        for quality in range(2):
            file = folder / "details" / f"q{quality}" / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(DETAILS), "utf-8")
    return write_results(folder, codecs, **facts)


def clips_evaluation(folder: Path) -> Path:
    """One clip of one quality."""
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), "bt709", False)
    for file in (folder / "originals/c.mp4", folder / "decoded/q0/c.mp4"):
        with write_clip(file, info) as clip:
            for number in range(FRAMES):
                clip.write(picture(number))
    over = {"frame_kind": ["intra"] * FRAMES, "frame_bpp": [0.1] * FRAMES, "frame_lpips": [0.1, 0.2, 0.3, 0.2, 0.25]}
    figures = {"frames": FRAMES, "fps": 25.0, "bytes": 700, "bpp": 0.1, "kbps": 30.0, "lpips": 0.21, "psnr": None}
    clip_row = {"codec": "GLC", "sequence": "c", "quality": 0, "height": HEIGHT, "width": WIDTH, **figures, **over}
    mean = {"quality": 0, "sequences": 1, "bpp": 0.1, "kbps": 30.0, "lpips": 0.21}
    return write_results(folder, {"GLC": {"means": [mean], "sequences": {"c": {"0": clip_row}}}})
