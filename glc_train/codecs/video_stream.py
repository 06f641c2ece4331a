"""Clip ⇄ `.glcv` bytes: one frame after the other, in bounded memory, through files and pipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from glc_train.bitstream import (
    MAX_PIXELS,
    ClipFormat,
    ContentCheck,
    Damage,
    FormatError,
    FrameKind,
    VideoHeader,
    VideoReader,
    VideoRecord,
    VideoWriter,
    check_pixels,
)
from glc_train.codecs.exact_stream import StreamReport
from glc_train.codecs.gop import GOP, FrameState
from glc_train.codecs.image import decoded_picture, pad_to_multiple
from glc_train.codecs.protocol import DecodedFrame, FrameDecoder, FrameEncoder, FrameReport
from glc_train.layers import FRACTION_BITS
from glc_train.pixels import picture_to_tensor

if TYPE_CHECKING:
    from glc_train.codecs.video import VideoCodec


class _Chain:
    """What encoder and decoder carry from frame to frame, and compute alike: the exact latent, and a check over it."""

    def __init__(self, codec: VideoCodec, header: VideoHeader) -> None:
        self.codec = codec
        self.header = header
        self.gop = GOP(header.intra_period, header.pattern, header.reset_interval)
        if max(header.pattern) >= codec.transform.adaptors:
            raise FormatError(
                f"The stream asks for adaptor {max(header.pattern)}, but the loaded weights know only 0 to "
                f"{codec.transform.adaptors - 1}: load the weights it was written with."
            )
        self.intra_coder = codec.image.picture_coder()
        self.frame_coder = codec.frame_coder()
        self.check = ContentCheck()  # before the first intra frame
        self.state: FrameState | None = None
        self._from_intra = False  # whether the present picture is of the image codec's auto-encoder
        self._picture: np.ndarray | None = None

    @property
    def content(self) -> int:
        """Content check of the frames since the last intra frame, that one included; 0 before the first."""
        return self.check.digest()

    def begin(self) -> ContentCheck:
        """The check of an intra frame, which begins with what the header says of its picture."""
        return ContentCheck(self.header.width, self.header.height, self.header.quality)

    def previous(self) -> FrameState:
        """What the frame before left."""
        assert self.state is not None, "a chain begins with an intra frame"
        return self.state

    def keep(self, index: int, latent: Tensor, conditional: bool) -> None:
        """Goes on to the decoded latent (1, N, h, w) of frame `index`."""
        self.check.update((latent * 2**FRACTION_BITS).round().to(torch.int64).cpu().numpy())
        self.state = FrameState(latent, conditional, index)
        self._from_intra = not conditional
        self._picture = None

    def repeat(self, index: int) -> None:
        """Goes on to a frame that repeats the one before; where the chain would reset, the next frame starts it."""
        before = self.previous()
        self.state = replace(before, has_y=before.has_y and not self.gop.resets(index), index=index)

    def picture(self) -> np.ndarray:
        """uint8 (H, W, 3) of the present frame: always computed alone, so that batches cannot matter."""
        if self._picture is None:
            latent = self.previous().latent_hat
            decode = self.codec.image.decode_latent if self._from_intra else self.codec.decode_latent
            self._picture = decoded_picture(decode(latent)[..., : self.header.height, : self.header.width])
        return self._picture


class VideoEncoder(FrameEncoder):
    """Writes a clip frame by frame; see `Codec.encoder`. Use it in a `with` statement, or call `close`.

    A frame that equals the one before in every pixel is written as two bytes that say so. `gop` says which frame is
    coded how; None: the codec's.
    """

    header: VideoHeader

    def __init__(
        self,
        codec: VideoCodec,
        quality: int,
        clip: ClipFormat,
        out: BinaryIO,
        gop: GOP | None = None,
        reconstruct: bool = False,
    ) -> None:
        gop = gop or codec.gop
        self.codec = codec
        self.quality = int(codec.quality_indices(quality, 1)[0])
        self.header = VideoHeader(
            **vars(clip),
            quality=self.quality,
            fingerprint=codec.fingerprint,
            intra_period=gop.intra_period,
            reset_interval=gop.reset_interval,
            pattern=tuple(gop.pattern),
        )
        self.reconstruct = reconstruct
        self._chain = _Chain(codec, self.header)
        self._writer = VideoWriter(out, self.header)
        self._last: np.ndarray | None = None

    @property
    def size(self) -> int:  # type: ignore[override]  # its writer counts
        """Bytes written so far."""
        return self._writer.size

    @torch.inference_mode()
    def write(self, picture: np.ndarray) -> FrameReport:
        """Codes the next frame, uint8 (H, W, 3) of the clip's size.

        Raises:
            ValueError: it has another size, or the weights are damaged and the stream cannot go on.
        """
        chain, index = self._chain, self._writer.frames
        expected = (self.header.height, self.header.width, 3)
        if picture.shape != expected:
            raise ValueError(
                f"frame {index} is {picture.shape}, not {expected} as the clip: frames must not change size"
            )
        before = chain.content
        intra = chain.gop.is_intra(index)
        if not intra and self._last is not None and np.array_equal(picture, self._last):
            chain.repeat(index)
            return self._report(index, "repeat", self._writer.repeat(before), None)
        x = pad_to_multiple(picture_to_tensor(picture).to(self.codec.device), self.codec.multiple)
        report = self._code_intra(index, x) if intra else self._code_conditionally(index, x)
        self._last = picture.copy()
        write = self._writer.intra if intra else self._writer.conditional
        return self._report(index, "intra" if intra else "conditional", write(report.payload, before), report)

    def _code_intra(self, index: int, x: Tensor) -> StreamReport:
        chain, codec = self._chain, self.codec
        check = chain.begin()
        level = codec.quality_indices(self.quality, 1)
        report = chain.intra_coder.encode(codec.image.encode_latent(x), level, check)
        chain.check = check
        chain.keep(index, chain.intra_coder.latent(report.decoded, self.quality), conditional=False)
        return report

    def _code_conditionally(self, index: int, x: Tensor) -> StreamReport:
        chain, before = self._chain, self._chain.previous()
        adaptor = chain.gop.adaptor(index, before.has_y)
        latent = self.codec.encode_latent(x)
        report, latent_hat = chain.frame_coder.encode(latent, before.latent_hat, adaptor, self.quality, chain.check)
        chain.keep(index, latent_hat, conditional=True)
        return report

    def _report(self, index: int, kind: FrameKind, size: int, report: StreamReport | None) -> FrameReport:
        picture = self._chain.picture() if self.reconstruct else None
        if report is None:
            return FrameReport(index, kind, size, 0.0, 0.0, picture)
        estimated = report.estimated_bits_y + report.estimated_bits_z
        return FrameReport(index, kind, size, estimated, report.ideal_bits, picture)

    def close(self) -> None:
        """Writes the end record; the frames before can be decoded without it."""
        self._writer.close(self._chain.content)


class VideoDecoder(FrameDecoder):
    """Reads a clip; see `Codec.decoder`. A damaged frame is left out with those that need it: up to the next intra."""

    header: VideoHeader

    def __init__(
        self, codec: VideoCodec, source: BinaryIO, name: str = "The file", max_pixels: int | None = MAX_PIXELS
    ) -> None:
        self._reader = VideoReader(source, name)
        self.header = self._reader.header
        check_pixels(self.header, max_pixels, name)
        codec.check_made_for(self.header, codec.fingerprint, name)
        self.codec = codec
        self.damages = []
        self.frames = None
        self.size = self._reader.header_size
        self._chain = _Chain(codec, self.header)
        self._chain_start: int | None = None  # the intra frame that the chain began with; None: there is none
        self._wanted = 0
        self._ended = False

    def seek(self, frame: int) -> None:
        """Makes the iteration begin at `frame`, 0 or later; only latents are decoded between it and an intra frame.

        Raises:
            ValueError: `frame` is negative, or the stream is a pipe and that frame has gone by.
        """
        self._reader.seek(frame)
        self._wanted = frame
        self._chain_start = None
        self._ended = False

    def __iter__(self) -> Iterator[DecodedFrame]:
        """Decodes the frames from the present one to the last."""
        while (record := self._next_latent()) is not None:
            if record.frame >= self._wanted and record.kind != "end":
                yield DecodedFrame(record.frame, self._picture(), record.kind, record.size)

    @torch.inference_mode()
    def _picture(self) -> np.ndarray:
        return self._chain.picture()

    @torch.inference_mode()
    def _next_latent(self) -> VideoRecord | None:
        """Decodes the latent of the next frame that can be decoded; None at the end."""
        if self._ended:
            return None
        chain = self._chain
        record = self._reader.next_record(None if self._chain_start is None else chain.content)
        while True:
            self._close_chain(record)
            self.size += record.size
            if record.kind == "end":
                self._ended = True
                self.frames = record.frame if record.size else None
                return None
            try:
                self._decode(record)
                return record
            except FormatError:
                self._chain_start = None
                record = self._reader.resync("the record holds what no encoder writes")

    def _close_chain(self, record: VideoRecord) -> None:
        """Takes down what was lost before a record, and whether the chain that it ends was decoded right."""
        start, chain = self._chain_start, self._chain
        if record.damage is not None:
            self.damages.append(record.damage)
            self._chain_start = None
        elif record.before is not None and start is not None and record.before != chain.content:
            reason = (
                "did not decode to what was encoded: damaged, or the networks computed differently than in the encoder"
            )
            self.damages.append(Damage(start, record.frame, reason))

    def _decode(self, record: VideoRecord) -> None:
        chain, header, index = self._chain, self.header, record.frame
        if record.kind == "repeat":
            chain.repeat(index)
        elif record.kind == "intra":
            chain.check = chain.begin()
            size = self.codec.image.latent_size(header.height, header.width)
            coder = chain.intra_coder
            decoded = coder.read_symbols(record.payload, *size, self.codec.device, chain.check)
            chain.keep(index, coder.latent(decoded, header.quality), conditional=False)
            self._chain_start = index
        else:
            before = chain.previous()
            adaptor = chain.gop.adaptor(index, before.has_y)
            latent = chain.frame_coder.decode(record.payload, before.latent_hat, adaptor, header.quality, chain.check)
            chain.keep(index, latent, conditional=True)
