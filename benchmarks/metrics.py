"""What metrics cost beside the coding: processor time of one picture at all qualities, one thread.

python -m benchmarks.metrics PICTURE...
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from glc_train import load_codec, provenance
from glc_train.media import read_picture
from glc_train.metrics import DISTS, LPIPS, PictureMetrics, ms_ssim, psnr


def main() -> None:
    """Prints seconds for each picture at all qualities, and metrics over coding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    pictures = parser.parse_args().pictures
    torch.set_num_threads(1)
    codec = load_codec(dtype="float32")
    metrics: dict[str, Any] = {"psnr": psnr, "ms_ssim": ms_ssim, "lpips": LPIPS(), "dists": DISTS()}
    each = {name: PictureMetrics({name: metric}) for name, metric in metrics.items()}
    totals = dict.fromkeys(["coding", *each], 0.0)
    for path in pictures:
        picture = read_picture(path)
        for quality in range(codec.quality_levels):
            start = time.process_time()
            decoded = codec.decompress(codec.compress(picture, quality))
            totals["coding"] += time.process_time() - start
            for name, measure in each.items():
                start = time.process_time()
                measure.measure(picture, decoded)
                totals[name] += time.process_time() - start
    print(provenance.hardware())
    for name, seconds in totals.items():
        print(f"{name:8} {seconds:7.2f} s")
    print(f"metrics over coding: {sum(totals[name] for name in each) / totals['coding']:.2f}")


if __name__ == "__main__":
    main()
