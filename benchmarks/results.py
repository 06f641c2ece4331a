"""Makes the figures, plots and tables of README.md and docs/ anew, those that can be made here: `make results`.

Tables stand between `<!--results-->` and `<!--end-->`, and come from `results/`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from glc_train.files import replacing, write_text

REPOSITORY = Path(__file__).resolve().parents[1]
KODAK = REPOSITORY / "results/kodak/glc_image_small"
PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs/model-cards/glc_image_small.md")
_WEIGHTS = "glc_train/pretrained/glc_image_small.safetensors"
_COPIED = ("results.json", "results.csv", "rate_distortion.png")
_GRID_WIDTH = 1600  # pixels
_REPORT_MB = "5"  # it stands in the repository
_COMPARED = "Compare kodim23"
_HEADER = """\
| quality | bpp | model's estimate | PSNR (dB) | MS-SSIM | LPIPS ↓ | DISTS ↓ |
|---|---|---|---|---|---|---|
"""
_NOT_MADE_HERE = {
    "results/kodak/glc_image_small/failures.jpg": "its parts were chosen by hand",
    "results/kodak/glc_image_small_effort": "it takes an hour of a processor (benchmarks/README.md has the command)",
    "results/video/glc_video_small": "its clips are not in this repository (docs/video.md has the command)",
    "results/video/glc_video_small_effort": "its clips are not in this repository (its results.json has the command)",
    "results/video/glc_video_small_cpu": "its weights are not in this repository",
    "results/training": "the curves were made by trainings on a GPU",
    "results/benchmarks": "times need a machine that does nothing else (benchmarks/README.md has the commands)",
}


def kodak_table(folder: Path = KODAK) -> str:
    """The installed codec's means on Kodak, in Markdown."""
    means = json.loads((folder / "results.json").read_text(encoding="utf-8"))["codecs"]["GLC"]["means"]
    rows = (
        f"| {m['quality']} | {m['bpp']:.4f} | {m['estimated_bpp']:.4f} | {m['psnr']:.2f} | {m['ms_ssim']:.3f} |"
        f" {m['lpips']:.3f} | {m['dists']:.3f} |\n"
        for m in means
    )
    return _HEADER + "".join(rows)


def with_tables(text: str) -> str:
    """A page with its table between the markers made anew. Raises ValueError where it has no such place."""
    place = re.compile(r"(<!--results-->\n).*?(<!--end-->\n)", re.DOTALL)
    if not place.search(text):
        raise ValueError("a page has no place for results: put the two markers around the table")
    return place.sub(lambda found: found[1] + kodak_table() + found[2], text)


def evaluate_kodak() -> str | None:
    """Measures the installed codec and puts what it finds into `results/`; why not, where it cannot."""
    folder = os.environ.get("KODAK") or None
    if folder is None and not Path(os.environ.get("GLC_DATA", "."), "kodak", "manifest.json").exists():
        return "Kodak is not known: give make results KODAK=FOLDER, or set GLC_DATA"
    out = Path("outputs/results/kodak")
    given = [] if folder is None else [f"data.test.root={folder}"]
    command = [f"ckpt={_WEIGHTS}", "data=kodak", "dtype=float32", f"out={out}", "overwrite=true", *given]
    if subprocess.run([sys.executable, "evaluate.py", *command], cwd=REPOSITORY, check=False).returncode:
        return "the evaluation failed, see above"
    for name in _COPIED:
        shutil.copyfile(REPOSITORY / out / name, KODAK / name)
    with Image.open(REPOSITORY / out / "pictures.png") as grid, replacing(KODAK / "pictures.jpg") as file:
        grid.thumbnail((_GRID_WIDTH, grid.height))
        grid.convert("RGB").save(file, "JPEG", quality=85)
    report = [str(out), "--out", str(KODAK / "report.html"), "--max-mb", _REPORT_MB]
    subprocess.run([sys.executable, "-m", "glc_train", "report", *report], cwd=REPOSITORY, check=True)
    return None


def picture_of_report() -> str | None:
    """What a visitor sees of the report, as `report.png`; why not, where it cannot."""
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        return "it needs Chromium and the package playwright"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers, replacing(KODAK / "report.png") as file:
        browser = browsers.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto((KODAK / "report.html").as_uri())
        page.get_by_role("button", name=_COMPARED).first.click()
        page.get_by_label("Right", exact=True).select_option(label="GLC, quality 3")
        page.wait_for_timeout(2000)
        page.screenshot(path=file, type="png")
        browser.close()
    return None


def main() -> int:
    """Says of each result whether it was made; returns the exit code."""
    made = [f"{path.relative_to(REPOSITORY)}: the table" for path in PAGES]
    missing = dict(_NOT_MADE_HERE)
    if reason := evaluate_kodak():
        missing = {"results/kodak/glc_image_small": reason, **missing}
    else:
        made.insert(0, "results/kodak/glc_image_small: figures, plot, pictures.jpg, report.html")
    if reason := picture_of_report():
        missing = {"results/kodak/glc_image_small/report.png": reason, **missing}
    else:
        made.insert(0, "results/kodak/glc_image_small/report.png")
    for path in PAGES:
        write_text(path, with_tables(path.read_text(encoding="utf-8")))
    print("\n".join(["made:", *(f"  {name}" for name in made)]))
    print("\n".join(["not made here:", *(f"  {name}: {reason}" for name, reason in missing.items())]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
