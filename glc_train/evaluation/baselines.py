"""Classical codecs, measured as the learned ones are: each takes the best of its settings within some bytes."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from PIL import Image, features

from glc_train.evaluation.codecs import Encoded, EncodedFrame
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.sets import Item
from glc_train.files import write_bytes
from glc_train.media.clip_colour import Colours

# Format -> the options that spend the fewest bits, and the range of its quality setting.
BASELINE_FORMATS: dict[str, tuple[dict[str, object], range]] = {
    "jpeg": ({"optimize": True, "progressive": True, "subsampling": "4:2:0"}, range(1, 96)),
    "webp": ({"method": 6}, range(0, 101)),
    "avif": ({"speed": 6, "subsampling": "4:2:0"}, range(0, 101)),
}
_ENCODERS = {
    # name -> encoder, raw stream format, its options for a key frame every n frames
    "x264": ("libx264", "h264", lambda n: {"preset": "slow", "x264-params": f"keyint={n}:min-keyint=1"}),
    "x265": ("libx265", "hevc", lambda n: {"preset": "slow", "x265-params": f"keyint={n}:min-keyint=1:log-level=none"}),
}
_CRFS = tuple(crf / 2 for crf in range(102, 19, -1))  # 51 down to 10

_Extra = TypeVar("_Extra")


def _best_within(budget: int, settings: int, encode: Callable[[int], tuple[bytes, _Extra]]) -> tuple[bytes, _Extra]:
    """What the highest of the settings 0, 1 … gives in at most `budget` bytes, or the lowest gives where none does."""
    low, high = 0, settings - 1
    best = encode(0)
    while low < high:  # the file grows with the setting, but for ripples
        middle = (low + high + 1) // 2
        found = encode(middle)
        if len(found[0]) <= budget:
            low, best = middle, found
        else:
            high = middle - 1
    return best


class PillowBaseline:
    """JPEG, WebP or AVIF through Pillow, a `PictureCodec`.

    Args:
        format: one of `BASELINE_FORMATS`.

    Raises:
        EvaluationError: an unknown format, or one that this Pillow lacks.
    """

    def __init__(self, format: str) -> None:
        if format not in BASELINE_FORMATS:
            raise EvaluationError(f"There is no baseline {format!r}: choose among {', '.join(BASELINE_FORMATS)}.")
        if format != "jpeg" and not features.check(format):
            raise EvaluationError(f"This Pillow was built without {format}: install a newer one, or leave it out.")
        self.format = format
        self.suffix = f".{format}"

    def compress(self, picture: np.ndarray, level: int) -> bytes:
        """The best file of at most `level` bytes; no picture is made smaller, so the smallest may have more."""
        image, (options, settings) = Image.fromarray(picture), BASELINE_FORMATS[self.format]

        def encode(number: int) -> tuple[bytes, None]:
            file = io.BytesIO()
            image.save(file, self.format.upper(), quality=settings[number], **options)
            return file.getvalue(), None

        return _best_within(level, len(settings), encode)[0]

    def decompress(self, data: bytes) -> np.ndarray:
        """The picture uint8 (H, W, 3) of a file."""
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


class X26xBaseline:
    """x264 or x265 (preset slow) as a `FileCodec`: bare streams, so that no container's bytes count.

    Args:
        name: "x264" or "x265".
        intra_period: largest distance of key frames; None: only the first. A configuration that says null gets that
            of the codec under test.

    Raises:
        EvaluationError: another name, or an FFmpeg without that encoder.
    """

    def __init__(self, name: str, intra_period: int | None = None) -> None:
        if name not in _ENCODERS:
            raise EvaluationError(f"There is no baseline {name!r}: choose among {', '.join(_ENCODERS)}.")
        self.encoder, self.format, options = _ENCODERS[name]
        if self.encoder not in av.codecs_available:
            raise EvaluationError(f"This PyAV was built without {self.encoder}: leave the baseline {name} out.")
        self.suffix = f".{self.format}"
        self.options: dict[str, str] = options(intra_period or 100_000)

    def encode(self, item: Item, level: int, path: Path) -> Encoded:
        """See `FileCodec`; the seconds are those of the encoding that was kept."""
        data, encoded = _best_within(level, len(_CRFS), lambda number: self._encode(item, _CRFS[number]))
        write_bytes(path, data)
        return encoded

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See `FileCodec`."""
        with av.open(str(path), format=self.format) as container:
            colours = Colours("bt709", full_range=False)
            for frame in container.decode(video=0):
                yield colours.to_picture(frame)

    def _encode(self, item: Item, crf: float) -> tuple[bytes, Encoded]:
        info = item.info()
        pixel_format = "yuv444p" if info.width % 2 or info.height % 2 else "yuv420p"
        colours, out, written, seconds = Colours("bt709", full_range=False), io.BytesIO(), [], 0.0
        with av.open(out, "w", format=self.format) as container:
            options = self.options | {"crf": str(crf)}
            stream: Any = container.add_stream(self.encoder, rate=Fraction(info.fps), options=options)
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, pixel_format
            pictures = (colours.to_frame(picture, pixel_format) for picture in item.pictures())
            for number, frame in enumerate(itertools.chain(pictures, [None])):  # None: what the encoder holds back
                if frame is not None:
                    frame.pts, frame.time_base = number, 1 / Fraction(info.fps)
                start = time.perf_counter()
                packets = stream.encode(frame)
                seconds += time.perf_counter() - start
                written += packets
                container.mux(packets)
        order = sorted(written, key=lambda packet: packet.pts)  # coded out of order
        frames = tuple(EncodedFrame("intra" if packet.is_keyframe else "inter", packet.size) for packet in order)
        return out.getvalue(), Encoded(frames, seconds)
