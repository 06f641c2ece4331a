"""Pictures and clips made small enough for a page: all within so many bytes, the less telling ones smaller first."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from glc_train.media import open_clip, write_clip

QUALITIES = (88, 82, 78)
"""Of WebP, from the one that is taken where there is room; the differences are hardly visible."""
_CRFS = (20, 24, 28)  # of H.264, likewise
_DIVISORS = (2, 4, 0)  # sides are divided by these, one after the other; 0: left out
_LARGEST_SIDE = 16383  # of a WebP picture
_SAMPLED = 10
_ALL = 200  # shots, up to which each is encoded before it is decided what to make smaller
_THUMBNAIL = (144, 108)
VIDEO_SUFFIX = ".mp4"


@dataclass(frozen=True)
class Shot:
    """A picture file or video, and its `group`: those of one group are shown at the same size."""

    path: Path
    group: int


@dataclass(frozen=True)
class Embedded:
    """What a page holds of a shot: a data URI, and by what the sides were divided."""

    uri: str
    divisor: int


@dataclass(frozen=True)
class _Plan:
    level: int  # of QUALITIES
    divisors: tuple[int, ...]  # of each group


def thumbnail(path: Path) -> str:
    """A data URI of a small picture; of a video, its first frame."""
    image = Image.fromarray(_first_frame(path)) if path.suffix == VIDEO_SUFFIX else _open(path)
    image.thumbnail(_THUMBNAIL)
    return _uri(_webp(image, 70), "image/webp")


def fit(shots: Sequence[Shot], order: Sequence[int], budget: int) -> list[Embedded | None]:
    """Encode the shots so that their data URIs have at most `budget` characters together.

    Args:
        shots: to show.
        order: all groups, those first that are to be made smaller first.
        budget: in characters.

    Returns:
        One for each shot; None: there was no room for it.
    """
    if not shots:
        return []
    room = budget * 3 // 4 - 32 * len(shots)  # what base64 and its prefix leave
    encoder, share, plan = _Encoder(), 1.0, _Plan(0, ())
    found: list[bytes | None] = [None] * len(shots)
    for _ in range(5):
        plan = _plan(shots, order, room, encoder, share)
        found = [encoder.encoded(s.path, plan.level, d) if (d := plan.divisors[s.group]) else None for s in shots]
        total = sum(len(each) for each in found if each)
        if total <= room:
            break
        share *= total / room * 1.01  # the estimate was too low
    else:
        found = [None] * len(shots)
    kinds = ["video/mp4" if shot.path.suffix == VIDEO_SUFFIX else "image/webp" for shot in shots]
    return [
        Embedded(_uri(data, kind), plan.divisors[shot.group]) if data else None
        for shot, data, kind in zip(shots, found, kinds, strict=True)
    ]


def _plan(shots: Sequence[Shot], order: Sequence[int], room: int, encoder: _Encoder, share: float) -> _Plan:
    """The best of the plans that fit by estimate, which is taken `share` times."""
    sizes: list[float] = []  # of each group, in full
    for level in range(len(QUALITIES)):
        sample = shots[:: max(1, len(shots) // _SAMPLED)]
        if level == len(QUALITIES) - 1 and len(shots) <= _ALL:
            sample = shots
        known = {shot: len(encoder.encoded(shot.path, level, 1)) for shot in sample}
        density = sum(known.values()) / sum(encoder.pixels(shot.path) for shot in sample)
        sizes = [0.0] * (max(order) + 1)
        for shot in shots:
            sizes[shot.group] += share * known.get(shot, density * encoder.pixels(shot.path))
        if sum(sizes) <= room:
            return _Plan(level, (1,) * len(sizes))
    divisors = [1] * len(sizes)
    for divisor in _DIVISORS:
        for group in order:
            divisors[group] = divisor
            if sum(size / d**1.5 for size, d in zip(sizes, divisors, strict=True) if d) <= room:
                return _Plan(len(QUALITIES) - 1, tuple(divisors))
    return _Plan(len(QUALITIES) - 1, tuple(divisors))


@dataclass
class _Encoder:
    """Encodes files, each only once."""

    known: dict[tuple[Path, int, int], bytes] = field(default_factory=dict)
    counted: dict[Path, int] = field(default_factory=dict)

    def pixels(self, path: Path) -> int:
        """Of all frames together."""
        if path not in self.counted:
            self.counted[path] = _count_pixels(path)
        return self.counted[path]

    def encoded(self, path: Path, level: int, divisor: int) -> bytes:
        """At a level of `QUALITIES`, the sides divided."""
        key = path, level, divisor
        if key not in self.known:
            self.known[key] = _encode(*key)
        return self.known[key]


def _count_pixels(path: Path) -> int:
    if path.suffix == VIDEO_SUFFIX:
        with open_clip(path) as clip:
            return clip.info.width * clip.info.height * sum(1 for _ in clip)
    with Image.open(path) as image:
        return image.width * image.height


def _encode(path: Path, level: int, divisor: int) -> bytes:
    if path.suffix == VIDEO_SUFFIX:
        return path.read_bytes() if (level, divisor) == (0, 1) else _smaller_clip(path, _CRFS[level], divisor)
    image = _open(path)
    divisor = max(divisor, -(-max(image.size) // _LARGEST_SIDE))
    if divisor > 1:
        image = image.resize((-(-image.width // divisor), -(-image.height // divisor)), Image.Resampling.LANCZOS)
    return _webp(image, QUALITIES[level])


def _smaller_clip(path: Path, crf: int, divisor: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder, open_clip(path) as clip:
        info = clip.info
        size = _even(info.width / divisor), _even(info.height / divisor)
        target = Path(folder, f"clip{VIDEO_SUFFIX}")
        with write_clip(target, replace(info, width=size[0], height=size[1]), crf=crf) as writer:
            for frame in clip:
                writer.write(np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)))
        return target.read_bytes()


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


def _first_frame(path: Path) -> np.ndarray:
    with open_clip(path) as clip:
        return next(clip)


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _webp(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
