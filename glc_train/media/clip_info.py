"""What is known of a clip before its first frame, and the error of all that handles clips."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

Matrix = Literal["bt601", "bt709"]

DEFAULT_FPS = Fraction(25)  # of folders of frames and raw video, which do not say


class ClipError(ValueError):
    """A clip cannot be read or written; the message names the file and says what to do."""


@dataclass(frozen=True)
class ClipInfo:
    """A clip's format.

    Attributes:
        width, height: pixels, as displayed (rotation applied).
        fps: frames per second.
        matrix: coefficients between RGB and YUV: ITU-R BT.601 or BT.709.
        full_range: luma 0 to 255 rather than 16 to 235.
        frames: how many; `None` if the file does not say.

    Raises: ClipError for numbers out of range or another matrix.
    """

    width: int
    height: int
    fps: Fraction
    matrix: Matrix
    full_range: bool
    frames: int | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.fps <= 0:
            raise ClipError(
                f"A clip has positive width, height and frame rate; got {self.width}×{self.height} at {self.fps}."
            )
        if self.matrix not in ("bt601", "bt709"):
            raise ClipError(f"A clip's matrix is 'bt601' or 'bt709'; got {self.matrix!r}.")


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that takes digits as numbers: im2.png comes before im10.png."""
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(1, int(part), "") if k % 2 else (0, 0, part) for k, part in enumerate(parts)]
