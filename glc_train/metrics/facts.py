"""What is known of metrics before any is computed: titles, smallest pictures, what makes two figures comparable."""

from __future__ import annotations

from dataclasses import dataclass

TITLES = {
    "lpips": "LPIPS (AlexNet) ↓",
    "lpips_vgg": "LPIPS (VGG16) ↓",
    "dists": "DISTS ↓",
    "psnr": "PSNR (dB) ↑",
    "ms_ssim": "MS-SSIM ↑",
    "fid": "FID ↓",
    "kid": "KID ↓",
    "vmaf": "VMAF ↑",
    "flicker": "flicker ↓",
}
"""Titles of the metrics that are known, in the order in which they are drawn; another one's name is its title."""

# MS-SSIM: an 11-tap window must fit after four halvings, which round down: 11 x 16. The trunks of the others halve a
# picture four to five times.
SMALLEST_SIDES = {"psnr": 1, "ms_ssim": 176, "lpips": 32, "lpips_vgg": 32, "dists": 32}
"""Pixels that each side of a picture must have for a metric."""


@dataclass(frozen=True)
class MetricSource:
    """What makes two figures of one metric comparable.

    Attributes:
        target: class or function, with its module; None: unknown.
        package: the distribution that computes it; None: a module that belongs to none.
        version: of the package; of such a module the SHA-256 of its file.
        weights_sha256: of all weights and buffers, see `backbones.digest`; None: it has none.
        reason: why it has no figure at all; None: it has some.
    """

    target: str | None
    package: str | None
    version: str | None
    weights_sha256: str | None = None
    reason: str | None = None
