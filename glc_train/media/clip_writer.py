"""Clips out: video files and folders of frames that appear whole or not at all."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import av
import numpy as np

from glc_train.files import replacing
from glc_train.media.clip_colour import MATRIX_TAG, Colours
from glc_train.media.clip_info import ClipError, ClipInfo
from glc_train.media.pictures import PathLike, Picture, PictureError, write_picture
from glc_train.media.y4m import Y4mWriter

DEFAULT_CRF = 10.0
_UNWRITTEN = 4  # frames that wait to be written, or are
# suffix -> (encoder, its options)
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"preset": "medium"}),
    ".mkv": ("libx264", {"preset": "medium"}),
    ".webm": ("libvpx-vp9", {"b": "0", "deadline": "good", "cpu-used": "4"}),
}
_SUFFIXES = (*_ENCODERS, ".y4m")
_REFUSALS = (OverflowError, av.ArgumentError, av.ExternalError)  # of encoders and containers; a disk has other errors


def write_clip(path: PathLike, info: ClipInfo, crf: float = DEFAULT_CRF, threads: int = 0) -> ClipWriter:
    """Open a clip for writing; use it as a context manager: `with write_clip(path, info) as clip: clip.write(frame)`.

    path: `.mp4` or `.mkv` (H.264) and `.webm` (VP9), 4:2:0, or 4:4:4 for H.264 of odd sides; `.y4m`, uncompressed
        4:4:4, so that only the conversion to YUV rounds; or a name without suffix (or a folder): PNG frames
        000000.png, 000001.png, ..., without loss.
    info: its width, height, frame rate, matrix and range are used and recorded in the file's tags.
    crf: constant rate factor of the encoder. The default is near lossless; 0 is the best it has.
    threads: of the encoder, on which its bytes may depend; 0: as many as it likes.
    Missing folders are made.
    Raises: ClipError for another suffix, a folder that is not empty, and a place that cannot be written.
    """
    return ClipWriter(path, info, crf, threads)


class _Target(Protocol):
    def write(self, picture: Picture) -> None: ...

    def close(self) -> None: ...


class ClipWriter:
    """A clip being written; it takes its place when the `with` block ends without an exception.

    Frames are encoded in a thread of its own, beside what makes the next ones; so an error of one may come up later.
    """

    def __init__(self, path: PathLike, info: ClipInfo, crf: float = DEFAULT_CRF, threads: int = 0) -> None:
        """Check where the clip is to go; see `write_clip`."""
        self.path = Path(path)
        self.info = info
        self.count = 0
        suffix = self.path.suffix.lower()
        self._folder = self.path.is_dir() or not suffix
        if not self._folder and suffix not in _SUFFIXES:
            raise ClipError(
                f"{self.path}: cannot write '{suffix}' clips; use {', '.join(_SUFFIXES)}, or a name without suffix "
                "for a folder of PNG frames."
            )
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ClipError(f"{self.path}: the folder is not empty; name a new one.")
        self._crf = crf
        self._threads = threads
        self._waiting: deque[Future[None]] = deque()

    def write(self, frame: Picture) -> None:
        """Append one frame, uint8 RGB (H, W, 3), of which a copy is kept.

        Raises: ClipError if it has another size, the disk is full, or the file cannot hold such a size or rate.
        """
        wanted = (self.info.height, self.info.width, 3)
        if frame.dtype != np.uint8 or frame.shape != wanted:
            raise ClipError(f"{self.path}: frame {self.count} is {frame.dtype} {frame.shape}, expected uint8 {wanted}.")
        self._settle(_UNWRITTEN - 1)
        self._waiting.append(self._thread.submit(self._target.write, frame.copy()))
        self.count += 1

    def _settle(self, most: int) -> None:
        """Wait until at most `most` frames are unwritten."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            try:
                self._waiting.popleft().result()
            except (OSError, av.FFmpegError, PictureError) as error:
                raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        """Open the file under a temporary name. Raises: ClipError if it cannot be created."""
        try:
            with ExitStack() as stack:
                temporary = stack.enter_context(replacing(self.path, self._folder))
                self._target = self._open(temporary)
                self._thread = ThreadPoolExecutor(1, "clip writer")
                self._place = stack.pop_all()
        except (OSError, OverflowError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Finish the file and give it its name; after an exception, remove it.

        Raises: ClipError if no frame was written or the file cannot be finished.
        """
        if kind is not None:
            try:
                self._thread.shutdown(cancel_futures=True)
                with suppress(OSError, av.FFmpegError):
                    self._target.close()
            finally:
                self._place.__exit__(kind, error, at)
            return
        try:
            with self._place, self._thread:
                if not self.count:
                    raise ClipError(f"{self.path}: no frame to write; a clip has at least one.")
                self._settle(0)
                self._thread.submit(self._target.close).result()
        except (OSError, av.FFmpegError) as failure:
            raise self._unwritable(failure) from failure

    def _open(self, temporary: Path) -> _Target:
        if self._folder:
            return _PngFrames(temporary)
        suffix = self.path.suffix.lower()
        if suffix == ".y4m":
            return Y4mWriter(temporary, self.info)
        return _Encoded(temporary, self.info, suffix, self._crf, self._threads)

    def _unwritable(self, error: Exception) -> ClipError:
        if isinstance(error, _REFUSALS):
            return ClipError(
                f"{self.path}: a file of this kind cannot hold {self.info.width}×{self.info.height} pixels at "
                f"{self.info.fps} frames a second; a .y4m file or a folder of frames can."
            )
        cause = error.__cause__ or error  # of a frame's PictureError, which names a temporary file
        reason = getattr(cause, "strerror", None) or cause
        return ClipError(f"{self.path}: cannot be written ({reason}); check the folder, its rights and the free space.")


class _PngFrames:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def write(self, picture: Picture) -> None:
        write_picture(self._folder / f"{self._count:06}.png", picture)
        self._count += 1

    def close(self) -> None:
        pass


class _Encoded:
    def __init__(self, path: Path, info: ClipInfo, suffix: str, crf: float, threads: int) -> None:
        self._colours = Colours(info.matrix, info.full_range)
        encoder, options = _ENCODERS[suffix]
        odd = info.width % 2 or info.height % 2
        self._pixel_format = "yuv444p" if odd and encoder == "libx264" else "yuv420p"
        self._container = av.open(f"file:{path}", "w")
        self._stream = cast(
            Any, self._container.add_stream(encoder, rate=info.fps, options={**options, "crf": str(crf)})
        )
        self._stream.width, self._stream.height = info.width, info.height
        self._stream.pix_fmt = self._pixel_format
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = MATRIX_TAG[info.matrix]
        context.thread_count = threads
        context.color_range = 2 if info.full_range else 1
        self._time_base = 1 / info.fps
        self._count = 0

    def write(self, picture: Picture) -> None:
        frame = self._colours.to_frame(picture, self._pixel_format)
        frame.pts, frame.time_base = self._count, self._time_base
        frame.color_primaries = frame.color_trc = self._stream.codec_context.color_trc
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def close(self) -> None:
        if self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()
