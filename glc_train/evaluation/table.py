"""The table of means that an evaluation prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from glc_train.evaluation.results import Results

COLUMNS = {
    "bpp": "bpp", "kbps": "kbit/s", "estimated_bpp": "estimate", "psnr": "PSNR", "ms_ssim": "MS-SSIM", "lpips": "LPIPS",
    "dists": "DISTS", "fid": "FID", "flicker": "flicker", "encode_seconds": "encode s", "decode_seconds": "decode s",
}  # fmt: skip
_NARROWEST = 130  # characters; fewer would cut the numbers


def print_means(results: Sequence[Results], title: str) -> Console:
    """Prints what each codec has at each quality, columns without any value left out; returns where to print more."""
    means = [(each.codec, mean) for each in results for mean in each.means]
    used = [name for name in COLUMNS if any(getattr(mean, name, None) is not None for _, mean in means)]
    table = Table("codec", "q", *(COLUMNS[name] for name in used), title=title)
    for codec, mean in means:
        values = (getattr(mean, name) for name in used)
        table.add_row(codec, str(mean.quality), *("-" if v is None else f"{v:.4f}" for v in values))
    console = Console(width=max(Console().width, _NARROWEST), highlight=False)
    console.print(table)
    return console
