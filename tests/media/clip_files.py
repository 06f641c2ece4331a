"""Small clips for the tests, written with PyAV itself rather than with the writer under test."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

HEIGHT, WIDTH = 96, 128
PATCH = 16
TS_PACKET = 188


def colours(seed: int = 0) -> np.ndarray:
    """Random colours, uint8 (6, 8, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT // PATCH, WIDTH // PATCH, 3), dtype=np.uint8)


def patches(seed: int = 0) -> np.ndarray:
    """Picture, uint8 (96, 128, 3), of 16-pixel squares of those colours."""
    return colours(seed).repeat(PATCH, 0).repeat(PATCH, 1)


def centres(picture: np.ndarray) -> np.ndarray:
    """Colours at the middle of the squares, int (6, 8, 3)."""
    return picture[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].astype(int)


def grey(level: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Picture of one grey level."""
    return np.full((height, width, 3), level, dtype=np.uint8)


def noise(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Pictures of noise: files with many bytes in each frame."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def encode(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    tags: tuple[int, int] | None = None,
    rotation: tuple[int, bool, bool] | None = None,
) -> Path:
    """Encode pictures; times: in frames. tags: matrix and range by ITU-T H.273. rotation: degrees, then mirrorings."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        if tags is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = tags
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)
            if tags is not None:
                frame.colorspace, frame.color_range = tags
            frame.pts = number if times is None else times[number]
            frame.time_base = 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def drop_ts_packet(path: Path) -> None:
    """Take out one MPEG-TS packet of the video from the middle of the file."""
    data = path.read_bytes()
    pieces = [data[k : k + TS_PACKET] for k in range(0, len(data), TS_PACKET)]
    inner = [k for k, p in enumerate(pieces) if p[1] & 0x1F == 1 and p[2] == 0 and not p[1] & 0x40 and k > 20]
    del pieces[inner[len(inner) // 2]]
    path.write_bytes(b"".join(pieces))
