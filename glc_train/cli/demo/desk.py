"""What the page needs of the codec: weights that are loaded once, a folder for what is made, and its limits."""

from __future__ import annotations

import argparse
import html
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from glc_train.bitstream import ImageHeader, VideoHeader
from glc_train.cli.files import load
from glc_train.codecs import Codec, ImageCodec, VideoCodec

TITLE = "GLC"


@dataclass
class Made:
    """What one coding has left.

    Attributes:
        folder: of all its files.
        file: to download.
        figures: HTML, what there is to know of it.
        remarks: sentences about what is not as it was asked for.
        shown: picture files by what they show.
        clip: a video to look at.
    """

    folder: Path
    file: Path
    figures: str = ""
    remarks: list[str] = field(default_factory=list)
    shown: dict[str, Path] = field(default_factory=dict)
    clip: Path | None = None

    def discard(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Desk:
    """Loads codecs when they are first asked for.

    Args:
        args: of the command line.
        root: folder of all that is uploaded and made; whoever made it removes it.
    """

    def __init__(self, args: argparse.Namespace, root: Path) -> None:
        self.args, self.root = args, root
        self._own: dict[type[Codec], Codec] = {}
        self._of_files: dict[int, Codec] = {}

    @property
    def pictures(self) -> ImageCodec:
        """The codec of pictures that the command line names."""
        codec = self._loaded(ImageCodec)
        assert isinstance(codec, ImageCodec)
        return codec

    @property
    def clips(self) -> Codec:
        """The installed codec of clips."""
        return self._loaded(VideoCodec)

    def _loaded(self, kind: type[Codec]) -> Codec:
        if kind not in self._own:
            weights = self.args.weights if kind is ImageCodec else None
            self._own[kind] = load(argparse.Namespace(**vars(self.args) | {"weights": weights}), kind)
        return self._own[kind]

    def codec_of(self, header: ImageHeader | VideoHeader, name: str) -> Codec:
        """What wrote the file `name`. Raises WeightsError where its weights are not here."""
        kind = VideoCodec if isinstance(header, VideoHeader) else ImageCodec
        own = self._own.get(kind)
        if own is not None and own.fingerprint == header.fingerprint:
            return own
        if header.fingerprint not in self._of_files:
            installed = argparse.Namespace(**vars(self.args) | {"weights": None})
            self._of_files[header.fingerprint] = load(installed, kind, header, name)
        return self._of_files[header.fingerprint]

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """An empty one, which is removed if the block fails or is given up."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def deadline(self) -> Deadline:
        """From now."""
        return Deadline(self.args.max_seconds)

    def plain(self, text: str) -> str:
        """A sentence in which uploads have the names that they came with."""
        return re.sub(rf"{re.escape(str(self.root))}/(?:[^/\s:]+/)*", "", text)

    def size_within(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which something of so many pixels is coded."""
        scale = min(1.0, (self.args.max_pixels / (width * height)) ** 0.5)
        return max(1, int(width * scale)), max(1, int(height * scale))


class Deadline:
    """The end of so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self.end


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture uint8 (H, W, 3) at `size`, width and height; itself where that is its own."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def table(head: list[str], rows: list[list[str]]) -> str:
    """HTML; the first column names the rows, the others are figures."""

    def cells(row: list[str]) -> str:
        first, *others = map(html.escape, row)
        return f'<th scope="row">{first}</th>' + "".join(f"<td>{each}</td>" for each in others)

    top = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in head)
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )
