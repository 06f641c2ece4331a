"""What is evaluated, through files on disk: GLC for pictures and clips, and whatever codes single pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from glc_train.codecs import BitAccount, ClipFormat, Codec, CompressResult, ImageCodec, accounting, compress_within
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.sets import Item
from glc_train.files import replacing, write_bytes


@dataclass(frozen=True)
class EncodedFrame:
    """How one frame was coded, and the bytes of its record; estimated and ideal bits where the codec tells them."""

    kind: str
    bytes: int
    estimated_bits: float | None = None
    ideal_bits: float | None = None


@dataclass(frozen=True)
class Encoded:
    """Frames of a written file, the seconds that the encoder took for all of them, and where the bits went.

    `account`: where the codec tells; its places lie `cell` pixels apart. `stated_bytes`: of a codec that does not
    write its files. Seconds that are not known are NaN.
    """

    frames: tuple[EncodedFrame, ...]
    seconds: float
    account: BitAccount | None = None
    cell: int = 0
    stated_bytes: int | None = None


class FileCodec(Protocol):
    """What can be evaluated: a codec, or a baseline.

    Attributes:
        suffix: of its files, with the dot.
        takes_clips: if it has this, and it is false: that it codes single pictures only.
        writes_files: if it has this, and it is false: that its files are not at hand; `Encoded.stated_bytes` counts.
        notes: if it has this: sentences for `results.json`.
        identity: if it has this: text that stands for what it reads, see `Kept`.
    """

    suffix: str

    def encode(self, item: Item, level: int, path: Path) -> Encoded:
        """Writes the item to `path`. `level` is a codec's quality, or the bytes that a baseline's file may have."""
        ...

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3) of a file."""
        ...


class PictureCodec(Protocol):
    """What codes single pictures uint8 (H, W, 3); `level` as of `FileCodec`.

    One with `compress_with_report` also tells its own estimate of the rate; one with `suffix` names its files.
    """

    def compress(self, picture: np.ndarray, level: int) -> bytes:
        """The file."""

    def decompress(self, data: bytes) -> np.ndarray:
        """The picture of a file."""


class PictureFiles:
    """A `PictureCodec` as a `FileCodec`, of pictures only."""

    def __init__(self, codec: PictureCodec) -> None:
        self.codec: Any = codec
        self.takes_clips = False
        self.suffix: str = getattr(codec, "suffix", ".glc")

    def encode(self, item: Item, level: int, path: Path) -> Encoded:
        """See `FileCodec`."""
        (picture,) = item.pictures()
        reporting = hasattr(self.codec, "compress_with_report")
        start = time.perf_counter()
        made = (self.codec.compress_with_report if reporting else self.codec.compress)(picture, level)
        seconds = time.perf_counter() - start
        data, bits = (made.data, (made.estimated_bits, made.ideal_bits)) if reporting else (made, ())
        write_bytes(path, data)
        return Encoded((EncodedFrame("intra", len(data), *bits),), seconds)

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See `FileCodec`."""
        yield self.codec.decompress(path.read_bytes())


class WithinBytes:
    """An image codec of ours as a `PictureCodec` that codes to a number of bytes."""

    def __init__(self, codec: ImageCodec) -> None:
        self.codec, self.suffix = codec, codec.suffix

    def compress(self, picture: np.ndarray, level: int) -> bytes:
        """See `PictureCodec`."""
        return self.compress_with_report(picture, level).data

    def compress_with_report(self, picture: np.ndarray, level: int) -> CompressResult:
        """The largest file of at most `level` bytes, or the smallest of all."""
        return compress_within(self.codec, picture, level)[1]

    def decompress(self, data: bytes) -> np.ndarray:
        """See `PictureCodec`."""
        return self.codec.decompress(data, max_pixels=None)


class GLCFiles:
    """A codec of ours as a `FileCodec`; a picture is a clip of one frame."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.suffix, self.takes_clips = codec.suffix, codec.takes_clips

    def encode(self, item: Item, level: int, path: Path) -> Encoded:
        """See `FileCodec`."""
        info = item.info()
        clip = ClipFormat(
            width=info.width,
            height=info.height,
            fps=info.fps.as_integer_ratio(),
            matrix=info.matrix,
            full_range=info.full_range,
        )
        reports, seconds = [], 0.0
        with (
            accounting() as account,
            replacing(path) as temporary,
            open(temporary, "wb") as file,
            self.codec.encoder(level, clip, file) as encoder,
        ):
            for frame in item.pictures():
                start = time.perf_counter()
                report = encoder.write(frame)
                seconds += time.perf_counter() - start
                account.settle()
                reports.append(EncodedFrame(report.kind, report.size, report.estimated_bits, report.ideal_bits))
        return Encoded(tuple(reports), seconds, account, self.codec.autoencoder.factor)

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """See `FileCodec`. Raises EvaluationError where the file is damaged."""
        with open(path, "rb") as file:
            decoder = self.codec.decoder(file, str(path), max_pixels=None)
            for frame in decoder:
                yield frame.picture
            if decoder.damages:
                raise EvaluationError(f"{path} does not decode: {decoder.damages[0]}")


def through_files(codec: Any) -> FileCodec:
    """A codec of ours, a `PictureCodec` or a `FileCodec`, as the last of these."""
    if isinstance(codec, Codec):
        return GLCFiles(codec)
    return codec if hasattr(codec, "encode") else PictureFiles(codec)
