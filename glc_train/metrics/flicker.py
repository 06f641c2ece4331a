"""How much the coding error of a clip changes from frame to frame."""

from __future__ import annotations

import numpy as np


def signed_error(original: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Difference of two uint8 frames of one shape, float32 in [-1, 1]."""
    return (decoded.astype(np.float32) - original.astype(np.float32)) / 255


def flicker(error: np.ndarray, before: np.ndarray) -> float:
    """Root mean square change of the `signed_error` since the frame before; errors that stand still give 0."""
    return float(np.sqrt(np.mean((error - before) ** 2, dtype=np.float64)))
