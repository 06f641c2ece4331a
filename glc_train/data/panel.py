"""Pictures side by side with captions, for people to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glc_train.media.pictures import write_picture

_CAPTION_HEIGHT = 22
_GAP = 6


def _cell(picture: np.ndarray, caption: str, cell_width: int) -> Image.Image:
    image = Image.fromarray(picture)
    width = min(cell_width, image.width)
    height = max(1, round(image.height * width / image.width))
    cell = Image.new("RGB", (width, height + _CAPTION_HEIGHT), "white")
    cell.paste(image.resize((width, height), Image.Resampling.LANCZOS) if width != image.width else image)
    ImageDraw.Draw(cell).text((2, height + 3), caption, fill="black", font=ImageFont.load_default(13))
    return cell


def draw_panel(rows: Sequence[Sequence[tuple[np.ndarray, str]]], cell_width: int = 384) -> np.ndarray:
    """Rows of (picture uint8 (H, W, 3), caption) → one picture uint8 (H, W, 3).

    Args:
        rows: at least one row with at least one picture.
        cell_width: widest a picture is drawn, in pixels; smaller ones keep their size.
    """
    cells = [[_cell(picture, caption, cell_width) for picture, caption in row] for row in rows]
    heights = [max(cell.height for cell in row) for row in cells]
    width = max(sum(cell.width + _GAP for cell in row) for row in cells)
    canvas, top = Image.new("RGB", (width, sum(heights) + _GAP * len(heights)), "white"), 0
    for row, height in zip(cells, heights, strict=True):
        left = 0
        for cell in row:
            canvas.paste(cell, (left, top))
            left += cell.width + _GAP
        top += height + _GAP
    return np.asarray(canvas)


def write_panel(path: Path, rows: Sequence[Sequence[tuple[np.ndarray, str]]], cell_width: int = 384) -> None:
    """Draws a panel (see `draw_panel`) to a picture file."""
    write_picture(path, draw_panel(rows, cell_width))
