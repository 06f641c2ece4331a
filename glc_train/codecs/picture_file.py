"""A `.glc` file as a clip of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from glc_train.bitstream import ClipFormat, check_fingerprint, check_pixels, unpack_image
from glc_train.codecs.protocol import DecodedFrame, FrameDecoder, FrameEncoder, FrameReport

if TYPE_CHECKING:
    from glc_train.codecs.image import ImageCodec


class PictureEncoder(FrameEncoder):
    """Writes one picture, which is the whole file; see `Codec.encoder`."""

    def __init__(self, codec: ImageCodec, quality: int, clip: ClipFormat, out: BinaryIO, reconstruct: bool) -> None:
        self.codec = codec
        self.quality = int(codec.quality_indices(quality, 1)[0])
        self.header = clip
        self.reconstruct = reconstruct
        self.size = 0
        self._out = out

    def write(self, picture: np.ndarray) -> FrameReport:
        """Codes the picture, uint8 (H, W, 3). Raises ValueError for a second one, or one of another size."""
        if self.size:
            raise ValueError("a .glc file holds one picture: write clips with a video codec")
        expected = (self.header.height, self.header.width, 3)
        if picture.shape != expected:
            raise ValueError(f"the picture is {picture.shape}, not {expected} as was said")
        result = self.codec.compress_with_report(picture, self.quality)
        self._out.write(result.data)
        self.size = len(result.data)
        shown = self.codec.decompress(result.data, max_pixels=None) if self.reconstruct else None
        return FrameReport(0, "intra", self.size, result.estimated_bits, result.ideal_bits, shown)


class PictureDecoder(FrameDecoder):
    """Reads one picture; see `Codec.decoder`."""

    def __init__(self, codec: ImageCodec, source: BinaryIO, name: str, max_pixels: int | None) -> None:
        self._data = source.read()
        self.header = unpack_image(self._data, name)[0]
        check_pixels(self.header, max_pixels, name)
        check_fingerprint(self.header, codec.fingerprint, name)
        self.codec = codec
        self.name = name
        self.damages = []
        self.frames = 1
        self.size = len(self._data)
        self._first = 0

    def seek(self, frame: int) -> None:
        """Leaves out the picture, if `frame` is not 0."""
        self._first = frame

    def __iter__(self) -> Iterator[DecodedFrame]:
        """Decodes the picture. Raises FormatError where it is damaged."""
        if self._first == 0:
            yield DecodedFrame(0, self.codec.decompress(self._data, None, self.name), "intra", self.size)
