"""Clip ⇄ `.glcv` bytes: one frame after the other, in bounded memory, through files and pipes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from glc_train.ahead import ahead
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
from glc_train.codecs.exact_stream import Chosen
from glc_train.codecs.gop import GOP, FrameState
from glc_train.codecs.image import decoded_picture
from glc_train.codecs.lanes import Lanes
from glc_train.codecs.protocol import DecodedFrame, FrameDecoder, FrameEncoder, FrameReport
from glc_train.codecs.refinement import Refinement, padded
from glc_train.codecs.scene_cuts import SceneCuts
from glc_train.layers import FRACTION_BITS

if TYPE_CHECKING:
    from glc_train.codecs.video import VideoCodec

_UNWRITTEN = 3  # frames whose symbols wait for the entropy coder, or are in it


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
        self.start = 0  # the last intra frame
        self._from_intra = False  # whether the present picture is of the image codec's auto-encoder

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

    def add(self, latent: Tensor) -> None:
        """Adds a decoded latent to the check."""
        self.check.update((latent * 2**FRACTION_BITS).round().to(torch.int32).cpu().numpy())

    def keep(self, index: int, latent: Tensor, conditional: bool) -> None:
        """Goes on to the decoded latent (1, N, h, w) of frame `index`."""
        self.state = FrameState(latent, conditional, index)
        self._from_intra = not conditional
        self.start = self.start if conditional else index

    def adaptor(self, index: int) -> int | None:
        """As of `GOP`, of a conditional frame."""
        return self.gop.adaptor(index - self.start, self.previous().has_y)

    def repeat(self, index: int) -> None:
        """Goes on to a frame that repeats the one before; where the chain would reset, the next frame starts it."""
        before = self.previous()
        self.state = replace(before, has_y=before.has_y and not self.gop.resets(index - self.start), index=index)

    def view(self) -> _View:
        """What shows the present frame."""
        return _View(self.previous().latent_hat, self._from_intra)

    @torch.inference_mode()
    def picture(self, view: _View) -> np.ndarray:
        """uint8 (H, W, 3): always computed alone, so that batches cannot matter."""
        decode = self.codec.image.decode_latent if view.from_intra else self.codec.decode_latent
        return decoded_picture(decode(view.latent)[..., : self.header.height, : self.header.width])


@dataclass(frozen=True)
class _View:
    """A decoded latent (1, N, h, w), and whether the image codec's auto-encoder made it."""

    latent: Tensor
    from_intra: bool


class _Taken(NamedTuple):  # a tuple, for `Lanes` to see the latent
    """A frame that is to be coded: uint8 (H, W, 3), or its latent (1, N, h, w); None for one that is repeated."""

    number: int
    kind: FrameKind
    picture: np.ndarray | None = None
    latent: Tensor | None = None


@dataclass(frozen=True)
class _Coded:
    """A frame that is coded but not yet written."""

    index: int
    kind: FrameKind
    view: _View
    chosen: Chosen | None


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
        self._level = codec.quality_indices(quality, 1)
        self.quality = int(self._level[0])
        self.header = VideoHeader(
            **vars(clip),
            quality=self.quality,
            fingerprint=codec.fingerprint,
            intra_period=gop.intra_period,
            reset_interval=gop.reset_interval,
            pattern=tuple(gop.pattern),
            scene_cuts=gop.scene_cuts,
        )
        self.reconstruct = reconstruct
        self._chain = _Chain(codec, self.header)
        self._writer = VideoWriter(out, self.header)
        self._taken = 0
        self._last_intra = 0
        self._cuts = SceneCuts()
        self._refine = None if (refiner := codec.refiner_of()) is None else Refinement(codec, self._level, refiner)
        self._last: np.ndarray | None = None
        self._shown: np.ndarray | None = None

    @property
    def size(self) -> int:  # type: ignore[override]  # its writer counts
        """Bytes written so far."""
        return self._writer.size

    def write(self, picture: np.ndarray) -> FrameReport:
        """Codes the next frame, uint8 (H, W, 3) of the clip's size.

        Raises:
            ValueError: it has another size, or the weights are damaged and the stream cannot go on.
        """
        return self._write(self._code(self._latent(self._take(picture))))

    def write_all(self, pictures: Iterable[np.ndarray]) -> Iterator[FrameReport]:
        """As of `FrameEncoder`: auto-encoder, chain of latents and entropy coder work on different frames at a time.

        With effort it is frame by frame: the steps take nearly all the time, and all cores.
        """
        if self._refine is not None:
            yield from map(self.write, pictures)
            return
        pixels = self.header.width * self.header.height
        with Lanes(self.codec.device, pixels) as lanes, ThreadPoolExecutor(1, "entropy") as coder:
            latents = lanes.ahead(map(self._take, pictures), self._latent)
            yield from ahead(map(self._code, latents), self._write, coder, _UNWRITTEN)

    def _take(self, picture: np.ndarray) -> _Taken:
        """The next frame, and how it is to be coded."""
        expected = (self.header.height, self.header.width, 3)
        if picture.shape != expected:
            raise ValueError(
                f"frame {self._taken} is {picture.shape}, not {expected} as the clip: frames must not change size"
            )
        index, last = self._taken, self._last
        self._taken += 1
        intra = self.header.is_intra(index, self._last_intra)
        if not intra and last is not None and np.array_equal(picture, last):
            return _Taken(index, "repeat")
        cut = self.header.scene_cuts and self._cuts.begins(picture)
        self._last = picture.copy()
        if not (intra or cut):
            return _Taken(index, "conditional", self._last)
        self._last_intra = index
        return _Taken(index, "intra", self._last)

    @torch.inference_mode()
    def _latent(self, taken: _Taken) -> _Taken:
        """Runs the auto-encoder on what `_take` gave."""
        if taken.picture is None:
            return taken
        codec = self.codec.image if taken.kind == "intra" else self.codec
        return taken._replace(latent=codec.encode_latent(padded(codec, taken.picture)))

    @torch.inference_mode()
    def _code(self, taken: _Taken) -> _Coded:
        """Codes a frame after the one before."""
        chain, index, latent, refine = self._chain, taken.number, taken.latent, None
        if latent is None or taken.picture is None:
            chain.repeat(index)
            return _Coded(index, taken.kind, chain.view(), None)
        if self._refine is not None:
            refine = partial(self._refine, padded(self.codec, taken.picture))
        if taken.kind == "intra":
            chosen = chain.intra_coder.choose(latent, self._level, refine)
            chain.keep(index, chain.intra_coder.latent(chosen.decoded, self.quality), conditional=False)
            return _Coded(index, taken.kind, chain.view(), chosen)
        before, adaptor = chain.previous().latent_hat, chain.adaptor(index)
        chosen, latent_hat = chain.frame_coder.choose(latent, before, adaptor, self.quality, refine)
        chain.keep(index, latent_hat, conditional=True)
        return _Coded(index, taken.kind, chain.view(), chosen)

    @torch.inference_mode()
    def _write(self, coded: _Coded) -> FrameReport:
        """Writes the record of a frame."""
        chain, before = self._chain, self._chain.content
        if coded.chosen is None:
            picture = self._shown
            return FrameReport(coded.index, coded.kind, self._writer.repeat(before), 0.0, 0.0, picture)
        if coded.kind == "intra":
            chain.check = chain.begin()
        report = coded.chosen.pack(chain.check)
        chain.add(coded.view.latent)
        write = self._writer.intra if coded.kind == "intra" else self._writer.conditional
        size = write(report.payload, before)
        self._shown = chain.picture(coded.view) if self.reconstruct else None
        estimated = report.estimated_bits_y + report.estimated_bits_z
        return FrameReport(coded.index, coded.kind, size, estimated, report.ideal_bits, self._shown)

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
        self._pipe = not source.seekable()
        self._waiting: deque[tuple[VideoRecord, _View]] = deque()  # decoded latents that were not shown yet

    def seek(self, frame: int) -> None:
        """Makes the iteration begin at `frame`, 0 or later; only latents are decoded between it and an intra frame.

        Raises:
            ValueError: `frame` is negative, or the stream is a pipe and that frame has gone by.
        """
        self._reader.seek(frame)
        self._wanted = frame
        self._chain_start = None
        self._ended = False
        self._waiting.clear()

    def __iter__(self) -> Iterator[DecodedFrame]:
        """Decodes the frames from the present one to the last.

        Pictures are decoded beside the latents of the frames after them. The first is not, for many want no more than
        one; nor are those of a pipe, which may not have the next frame yet.
        """
        views, picture = self._views(), None
        for view in islice(views, None if self._pipe else 1):
            picture = picture if view is None else self._chain.picture(view)
            yield self._frame(picture)
        with Lanes(self.codec.device, self.header.width * self.header.height) as lanes:
            for found in lanes.ahead(views, self._picture):
                picture = picture if found is None else found
                yield self._frame(picture)

    def _views(self) -> Iterator[_View | None]:
        """Of the frames to be shown, first of those that an iteration before decoded in vain; None: as the one before.

        `_waiting` has them until they are shown.
        """
        for _, view in tuple(self._waiting):
            yield view
        last = None
        while (record := self._next_latent()) is not None:
            if record.frame >= self._wanted and record.kind != "end":
                view = self._chain.view()
                self._waiting.append((record, view))
                yield None if last is not None and view.latent is last.latent else view
                last = view

    def _picture(self, view: _View | None) -> np.ndarray | None:
        return None if view is None else self._chain.picture(view)

    def _frame(self, picture: np.ndarray | None) -> DecodedFrame:
        record, _ = self._waiting.popleft()
        assert picture is not None, "the first frame that is shown is not as the one before"
        assert record.kind != "end"
        return DecodedFrame(record.frame, picture, record.kind, record.size)

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
            chain.add(chain.previous().latent_hat)
            self._chain_start = index
        else:
            before, adaptor = chain.previous().latent_hat, chain.adaptor(index)
            latent = chain.frame_coder.decode(record.payload, before, adaptor, header.quality, chain.check)
            chain.keep(index, latent, conditional=True)
            chain.add(latent)
