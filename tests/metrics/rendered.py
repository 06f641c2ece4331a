"""Pictures rendered by code, so that recorded values hold on any machine."""

import numpy as np


def render(height: int, width: int) -> np.ndarray:
    """Waves with dark stripes, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [128 + 90 * np.cos(x / (7 + 5 * c) + c) * np.cos(y / (11 - 3 * c)) for c in range(3)]
    picture = np.stack(waves, axis=-1)
    picture[(x + y) % 48 < 12] *= 0.5
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def coarsen(picture: np.ndarray, step: int = 48) -> np.ndarray:
    """The same picture with every sample at the middle of one of a few steps."""
    return ((picture.astype(np.int64) // step) * step + step // 2).clip(0, 255).astype(np.uint8)
