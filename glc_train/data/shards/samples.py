"""What goes into shards: the samples of a folder, and how each becomes files of a shard."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from glc_train.data.clip_sources import find_clips
from glc_train.data.clip_store import ClipStore
from glc_train.data.crops import reduced
from glc_train.media.clip_info import ClipError
from glc_train.media.clip_writer import DEFAULT_CRF, write_clip
from glc_train.media.clips import frame_files, open_clip
from glc_train.media.pictures import PathLike, decode_picture, encode_picture, find_pictures

_LONGEST_STEM = 60


@dataclass(frozen=True)
class Item:
    """One sample to be written.

    Attributes:
        key: unique over all shards.
        path: of the picture or clip.
        size: bytes that it takes, about.
        frames: of a clip, from the first to before the second; `None`: all, as they are.
    """

    key: str
    path: Path
    size: int
    frames: tuple[int, int] | None = None


class Encoder(Protocol):
    """Makes the files of a sample; picklable."""

    def items(self, root: PathLike) -> list[Item]:
        """List the samples under the folder `root`, always in the same order."""
        ...

    def files(self, item: Item) -> dict[str, bytes]:
        """Return the files of a sample by what follows the key in their name.

        Raises: PictureError or ClipError if it cannot be read.
        """
        ...


@dataclass(frozen=True)
class PictureEncoder:
    """Pictures as they are, or reduced and encoded anew (an `Encoder`).

    Attributes:
        short_side: larger pictures are reduced (bicubic, antialiased) to this many pixels on the shorter side.
        format: of the new files; `None`: the files stay as they are unless `short_side` asks for JPEG.
        quality: of JPEG.
    """

    short_side: int | None = None
    format: Literal["jpeg", "png", "webp"] | None = None
    quality: int = 95

    def items(self, root: PathLike) -> list[Item]:
        """List the pictures. Raises: PictureError if there is none."""
        return [
            Item(key_of(number, path.relative_to(root)), path, path.stat().st_size)
            for number, path in enumerate(find_pictures(root))
        ]

    def files(self, item: Item) -> dict[str, bytes]:
        """Return the file of a picture, which is decoded in any case to see that it can be."""
        data = item.path.read_bytes()
        picture = decode_picture(data, str(item.path))
        if self.short_side is None and self.format is None:
            return {item.path.suffix.lower()[1:]: data}
        encoding = self.format or "jpeg"
        name = "jpg" if encoding == "jpeg" else encoding
        return {name: encode_picture(reduced(picture, self.short_side), f".{name}", self.quality, str(item.path))}


@dataclass(frozen=True)
class ClipEncoder:
    """Clips as short encoded segments; folders of a few frames, such as septuplets, as these (an `Encoder`).

    Attributes:
        short_side: larger frames are reduced (bicubic, antialiased) to this many pixels on the shorter side.
        segment: frames of a segment; the last of a clip has what is left besides.
        crf: of H.264, as of `write_clip`.
    """

    short_side: int | None = None
    segment: int = 32
    crf: float = DEFAULT_CRF

    def items(self, root: PathLike) -> list[Item]:
        """List the segments of all clips, and the clips of a few frames.

        Raises: ClipError if there is none. One that cannot be read is an item, to be refused when it is written.
        """
        return [
            Item(key_of(number, path.relative_to(root), suffix), path, size, frames)
            for number, path in enumerate(find_clips(root))
            for suffix, size, frames in self._segments(path)
        ]

    def files(self, item: Item) -> dict[str, bytes]:
        """Return a segment as mp4, or the frames of a short clip, each decoded in any case."""
        if item.frames is None:
            pictures = PictureEncoder(self.short_side, None if self.short_side is None else "png")
            files = frame_files(item.path).files
            digits = len(str(len(files)))
            return {
                f"im{number:0{digits}}.{suffix}": data
                for number, file in enumerate(files, 1)
                for suffix, data in pictures.files(Item("", file, 0)).items()
            }
        with open_clip(item.path) as clip:
            info = clip.info
        pictures_of = ClipStore(self.short_side, cache_mb=0).frames(item.path, range(*item.frames))
        height, width = pictures_of[0].shape[:2]
        with tempfile.TemporaryDirectory(prefix="glc_train-") as folder:
            path = Path(folder, "clip.mp4")
            # one thread: what x264 makes depends on their number
            with write_clip(path, replace(info, width=width, height=height, frames=None), self.crf, threads=1) as clip:
                for picture in pictures_of:
                    clip.write(picture)
            return {"mp4": path.read_bytes()}

    def _segments(self, path: Path) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
        try:
            length = ClipStore(None, cache_mb=0).length(path)
        except ClipError:
            length = 1
        files = frame_files(path).files if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        if path.is_dir() and length < 2 * self.segment:
            yield "", size, None
            return
        count = max(1, length // self.segment)
        for k in range(count):
            end = length if k == count - 1 else (k + 1) * self.segment
            yield f"-{k:04}", size // count, (k * self.segment, end)


def key_of(number: int, path: Path, part: str = "") -> str:
    """Key of file `number`: unique by the number, legible by the path; WebDataset ends a key at the first dot."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.with_suffix("").as_posix())
    return f"{number:08}-{stem[-_LONGEST_STEM:]}{part}"
