"""Rate-distortion curves, ours and the published ones that travel with this package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Curve:
    """Points of one codec: mappings with ``bpp`` and some of ``psnr``, ``ms_ssim``, ``lpips``, ``dists``, ``fid``.

    ``note`` says where the points come from and what their rate counts.
    """

    name: str
    points: tuple[dict[str, float], ...]
    note: str = ""

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Rates in bits per pixel and values of ``metric``, by rising rate, where both are known."""
        known = sorted((p["bpp"], p[metric]) for p in self.points if p.get(metric) is not None)
        return [rate for rate, _ in known], [value for _, value in known]


def published_datasets() -> list[str]:
    """Names that :func:`load_published` knows."""
    folder = resources.files("glc_train.evaluation") / "published"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_published(dataset: str) -> list[Curve]:
    """Published curves on ``kodak``, ``clic2020`` or ``div2k``; on video by ``video/<data set>``.

    Raises ``ValueError`` for another name.
    """
    name, _, part = dataset.partition("/")
    if name not in published_datasets():
        raise ValueError(
            f"There are no published curves for {dataset!r}: choose among {', '.join(published_datasets())}."
        )
    text = (resources.files("glc_train.evaluation") / "published" / f"{name}.json").read_text(encoding="utf-8")
    content = json.loads(text)
    codecs = content.get("codecs") or content["datasets"].get(part)
    if codecs is None:
        raise ValueError(f"Name one of {', '.join(f'{name}/{each}' for each in content['datasets'])}, not {dataset!r}.")
    note = f"{content['note']} ({content['source']})"
    return [Curve(codec, tuple(points), note) for codec, points in codecs.items()]
