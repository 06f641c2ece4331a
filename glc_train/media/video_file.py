"""One video file opened with PyAV: its stream checked, its frames decoded, its errors in one sentence."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.stream import Disposition

from glc_train.media.clip_colour import Colours, is_full_range, is_rgb, tagged_matrix
from glc_train.media.clip_damage import Damage
from glc_train.media.clip_info import ClipError, ClipInfo, Matrix
from glc_train.media.pictures import Picture
from glc_train.media.timeline import Timeline, shows_a_frame, timeline_of

_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, ITU-T H.273 table 3
_SKIPPED = ("h264",)  # decoders of codecs that say for certain what no other frame is predicted from
_SMALLEST_HD = 720  # rows from which players take untagged video as BT.709
# Containers whose frames lie in other files: one that a stranger gave could name any file of this machine.
_NAMING_FILES = {
    "avisynth", "concat", "dash", "dvdvideo", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp",
    "vapoursynth", "vobsub",
}  # fmt: skip
_FORMATS = ",".join(sorted(av.formats_available - _NAMING_FILES))


class VideoFile:
    """An opened video file; its frames from the start or from a time on."""

    def __init__(self, path: Path, threads: int = 0, data: bytes | None = None) -> None:
        """Open the file and find its first video stream.

        threads: of the decoder; 0 takes one for each core.
        data: the bytes of the file, if they are in memory; `path` is its name in messages then.
        Raises: ClipError if the file is missing, is no video, is a playlist of other files or is cut short.
        """
        self.path = path
        self._data = data
        if data is None and not path.exists():
            raise ClipError(f"{path}: no such file; check the path.")
        # `file:` keeps a colon in the name from being a protocol
        place, allowed = (f"file:{path}", "file") if data is None else (io.BytesIO(data), "none")
        try:
            self._container: Any = av.open(
                place,
                metadata_errors="ignore",
                container_options={"protocol_whitelist": allowed, "format_whitelist": _FORMATS},
            )
        except Exception as error:  # of FFmpeg, or of PyAV that does not know what FFmpeg found
            reason = _reason(error)
            if isinstance(error, av.ArgumentError):  # FFmpeg's answer to a format that is not on the list
                reason = "damaged, or a playlist of other files, which is not followed"
            raise ClipError(f"{path}: not a readable video file ({reason}); replace or remove the file.") from error
        try:
            self.stream = self._video_stream()
        except ClipError:
            self.close()
            raise
        self.stream.thread_type = "AUTO"
        self.stream.thread_count = threads

    def close(self) -> None:
        """Close the file; what was decoded stays valid."""
        self._container.close()

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    @property
    def frame_count(self) -> int | None:
        """Number of frames, if the file says."""
        entries = self._index()
        return sum(not entry.is_discard for entry in entries) if entries else self.stream.frames or None

    @property
    def nominal_rate(self) -> Fraction | None:
        """Frames per second as the head of the file has it, the denominator at most 1001."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return Fraction(rate).limit_denominator(1001) if rate else None

    def timeline(self) -> Timeline | None:
        """Read through the packets, unless the head of the file holds the number and the mean rate of its frames.

        Raises: ClipError if the video ends before the head says so.
        """
        if self._index() or self._container.format.name == "yuv4mpegpipe":
            return None
        with VideoFile(self.path, 1, self._data) as again:
            timeline = timeline_of(filter(shows_a_frame, again.packets()))
        self.check_end(timeline)
        return timeline

    def check_end(self, timeline: Timeline) -> None:
        """Raise ClipError if this `timeline` of the file ends before the head says so."""
        stated, rate = self._stated_end(), self.nominal_rate
        if len(timeline.times) and stated is not None and rate:
            ends = float(timeline.end * self.stream.time_base)
            if ends + 1.5 / float(rate) < stated:
                raise ClipError(
                    f"{self.path}: the file is cut short, or damaged: of {stated:.2f} seconds it holds {ends:.2f}; "
                    "fetch or copy it again."
                )

    def seek(self, time: int) -> None:
        """Go on with the key frame at or before `time`, in units of the stream. Raises: ClipError if that fails."""
        try:
            self._container.seek(time, stream=self.stream)
        except (av.FFmpegError, OSError) as error:
            raise ClipError(f"{self.path}: cannot be sought in ({_reason(error)}); re-encode the file.") from error

    def packets(self) -> Iterator[av.Packet[Any]]:
        """What is coded, in the order of the file, undecoded; in the end a packet without bytes.

        Raises: ClipError where the file cannot be read on.
        """
        try:
            yield from self._container.demux(self.stream)
        except Exception as error:
            raise self._damaged(error) from error

    def frames(
        self,
        damage: Damage | None = None,
        packets: Iterable[av.Packet[Any]] | None = None,
        since: int | None = None,
    ) -> Iterator[av.VideoFrame]:
        """Decode from the current position on, in order of display.

        damage: takes note of lost and damaged frames, which else raise ClipError.
        packets: of this file, to be decoded after all that came before is forgotten.
        since: what is shown before this time, in units of the stream, may be left out, where that saves time.
        Raises: ClipError where the file cannot be read on.
        """
        context = self.stream.codec_context
        unskipped = since if context.name in _SKIPPED else None
        if packets is not None:
            context.flush_buffers()
        try:
            for packet in self._container.demux(self.stream) if packets is None else packets:
                if unskipped is not None:  # before: what no other frame is predicted from
                    early = packet.pts is not None and packet.pts < unskipped
                    context.skip_frame = "NONREF" if early else "DEFAULT"
                if damage:
                    damage.sent(packet)
                try:
                    decoded = packet.decode()
                except av.InvalidDataError:
                    if damage is None:
                        raise
                    continue
                for frame in decoded:
                    if damage:
                        damage.shown(frame)
                    elif frame.is_corrupt:
                        raise self._damaged(None)
                    yield frame
        except ClipError:
            raise
        except Exception as error:
            raise self._damaged(error) from error
        if damage:
            damage.ended()

    def _stated_end(self) -> float | None:
        """When the video ends by the head of the file, in seconds; `None` if that does not say or is sure already."""
        stated = re.fullmatch(r"(\d+):(\d+):(\d+(\.\d+)?)", self.stream.metadata.get("DURATION", ""))
        if stated:  # Matroska
            return 3600 * int(stated[1]) + 60 * int(stated[2]) + float(stated[3])
        if self._container.format.name == "avi" and self.stream.guessed_rate:
            return self.stream.frames / float(self.stream.guessed_rate)
        return None

    def _video_stream(self) -> Any:
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        # ffmpeg would show any text file as a terminal
        if not streams or self._container.format.name == "tty":
            raise ClipError(f"{self.path}: no video in this file; give a video.")
        if streams[0].codec_context is None:
            raise ClipError(f"{self.path}: no decoder for this video; convert it with another program first.")
        self.stream = streams[0]
        size = self.path.stat().st_size if self._data is None else len(self._data)
        if any(entry.pos + entry.size > size for entry in self._index()):
            raise ClipError(f"{self.path}: the file is cut short; fetch or copy it again.")
        return self.stream

    def _index(self) -> list[Any]:
        """Where the file says its coded frames are; only MP4 (not in fragments) says it of all of them."""
        complete = "mp4" in self._container.format.name and self.stream.frames > 0
        return list(self.stream.index_entries) if complete else []

    def _damaged(self, error: Exception | None) -> ClipError:
        reason = f" ({_reason(error)})" if error else ""
        return ClipError(f"{self.path}: damaged video{reason}; replace the file.")


class VideoFrames:
    """The pictures of a video file, in order, with checks that take the whole clip."""

    def __init__(
        self,
        path: Path,
        fps: Fraction | None = None,
        matrix: Matrix | None = None,
        count: Callable[[Path, av.VideoFrame], int] | None = None,
    ) -> None:
        """Open the file and decode the first frame.

        fps: in place of the file's own frame rate. matrix: of untagged video, in place of the rule by height.
        count: tells the number of frames from the file and its first frame, in place of what the file says.
        Raises: ClipError if there is no frame that can be used.
        """
        self._damage = Damage()
        self._file = VideoFile(path)
        try:
            rate, frames = self._file.nominal_rate, self._file.frame_count
            timeline = self._file.timeline()
            if timeline and len(timeline.times):
                rate, frames = timeline.rate(rate, self._file.stream.time_base), timeline.count
            taken = rate if fps is None else fps
            if taken is None:
                raise ClipError(f"{path}: the file does not say its frame rate; give one.")
            self._frames = self._file.frames(self._damage)
            self._first = next(self._frames, None)
            if self._first is None:
                raise ClipError(f"{path}: a video without frames that can be decoded; replace the file.")
            self.info = describe(path, self._first, taken, count(path, self._first) if count else frames, matrix)
            self._rhythm = _Rhythm(path, self._file.stream.time_base, rate, taken)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Picture]:
        """Yield uint8 (H, W, 3); in the end warn of damage. Raises: ClipError for frames of another size."""
        assert self._first is not None
        colours = Colours(self.info.matrix, self.info.full_range)
        frame: av.VideoFrame | None = self._first
        try:
            while frame is not None:
                self._rhythm.check(frame)
                yield checked_picture(self._file.path, frame, self.info, colours)
                frame = next(self._frames, None)
        finally:
            if str(self._damage):
                warnings.warn(f"{self._file.path}: damaged video: {self._damage}.", stacklevel=2)


def describe(
    path: Path, frame: av.VideoFrame, fps: Fraction, count: int | None, untagged: Matrix | None = None
) -> ClipInfo:
    """Return what a clip's first frame tells of its format.

    Video that is not tagged with a matrix has `untagged`, if given; else BT.709 from 720 rows on and BT.601 below.
    Raises: ClipError for a matrix other than those two, and for HDR.
    """
    if frame.color_trc in _HDR:
        raise ClipError(
            f"{path}: the video is HDR ({_HDR[frame.color_trc]} transfer), only SDR can be read; convert it to SDR, "
            "BT.709, first."
        )
    picture = _picture(path, frame, Colours("bt709", False))  # upright
    try:
        matrix = tagged_matrix(frame)
    except KeyError as error:
        raise ClipError(
            f"{path}: colours of matrix {error} (ITU-T H.273), only BT.601 (5, 6) and BT.709 (1) can be read; "
            "convert the video to BT.709 first."
        ) from error
    if matrix is None:
        matrix = untagged or ("bt709" if is_rgb(frame) or frame.height >= _SMALLEST_HD else "bt601")
    return ClipInfo(picture.shape[1], picture.shape[0], fps, matrix, is_full_range(frame), count)


def checked_picture(path: Path, frame: av.VideoFrame, info: ClipInfo, colours: Colours) -> Picture:
    """Return the frame's picture, uint8 (H, W, 3). Raises: ClipError if it has not the size of `info`."""
    picture = _picture(path, frame, colours)
    if picture.shape[:2] != (info.height, info.width):
        raise ClipError(
            f"{path}: the size changes from {info.width}×{info.height} to {picture.shape[1]}×{picture.shape[0]} "
            "pixels; cut the video there."
        )
    return picture


def _picture(path: Path, frame: av.VideoFrame, colours: Colours) -> Picture:
    try:
        return colours.to_picture(frame)
    except Exception as error:
        raise ClipError(
            f"{path}: frames of the format {frame.format.name} cannot be converted ({_reason(error)}); convert the "
            "video to yuv420p first."
        ) from error


class _Rhythm:
    """Warns once where frames do not come at the nominal rate."""

    def __init__(self, path: Path, unit: Fraction | None, own: Fraction | None, fps: Fraction) -> None:
        """own: rate of the file itself; fps: that as which it is taken."""
        self._path, self._fps = path, fps
        # The file's rounding of times (milliseconds in MKV) is no change of rhythm.
        self._unit = float(unit or 0)
        self._interval = float(1 / own) if own and unit else 0.0
        self._last: int | None = None

    def check(self, frame: av.VideoFrame) -> None:
        last, self._last = self._last, frame.pts
        if last is None or frame.pts is None or not self._interval:
            return
        if abs((frame.pts - last) * self._unit - self._interval) > 0.1 * self._interval + 1.5 * self._unit:
            warnings.warn(
                f"{self._path}: frames do not come at a constant rate; taken as {float(self._fps):.3f} frames a "
                "second throughout.",
                stacklevel=2,
            )
            self._interval = 0.0


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
