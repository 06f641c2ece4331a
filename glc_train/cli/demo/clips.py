"""A clip through the codec, and coded files of both kinds opened."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import numpy as np

from glc_train.bitstream import MAX_PIXELS, ClipFormat, VideoHeader, check_pixels, read_header
from glc_train.cli.decompress import shown_frames
from glc_train.cli.demo.desk import TITLE, Deadline, Desk, Made, resized, table
from glc_train.cli.errors import CommandError
from glc_train.cli.jobs import Coded
from glc_train.codecs import FrameDecoder, spread_qualities
from glc_train.data import packaged_pictures
from glc_train.files import write_bytes
from glc_train.media import ClipInfo, open_clip, read_picture, write_clip, write_picture
from glc_train.media.clip_info import DEFAULT_FPS
from glc_train.media.clips import ClipReader

QUALITIES = 4
"""Those that are offered; the codec has more, evenly between them."""
Progress = Callable[[int, int], None]
_EXAMPLE = (240, 320, 48)  # height, width, frames
_GAP = 8  # white columns between original and decoded
_CRF = 14.0  # of what is looked at


def example(desk: Desk) -> Path:
    """A clip to try: a window that moves over a packaged photograph."""
    path = desk.root / "pan.mp4"
    if not path.exists():
        height, width, frames = _EXAMPLE
        photograph = read_picture(packaged_pictures("test")[0])
        rest = np.array(photograph.shape[:2]) - (height, width)
        with write_clip(path, ClipInfo(width, height, DEFAULT_FPS, "bt709", False)) as clip:
            for number in range(frames):
                top, left = (number * rest // (frames - 1)).tolist()
                clip.write(photograph[top : top + height, left : left + width])
    return path


def code(desk: Desk, source: Path, quality: int, most: int, progress: Progress) -> Made:
    """Code the first frames of a video, and show them beside the decoded ones.

    Args:
        desk: with the codec.
        source: video file, its frames reduced where they are larger than may be.
        quality: 0 to QUALITIES − 1.
        most: frames.
        progress: told the frames that are done, and all.

    Raises:
        ClipError, FormatError, CommandError, WeightsError, ValueError: it cannot be done.
    """
    with open_clip(source) as reader:
        check_pixels(reader.info, max(MAX_PIXELS, desk.args.max_pixels), str(source))
        info, codec = reader.info, desk.clips
        deadline, level = desk.deadline(), spread_qualities(codec.quality_levels, QUALITIES)[quality]
        size = _size(desk, info)
        clip = ClipFormat(
            width=size[0], height=size[1], fps=info.fps.as_integer_ratio(), matrix=info.matrix,
            full_range=info.full_range,
        )  # fmt: skip
        file = io.BytesIO()
        with codec.encoder(level, clip, file) as encoder:
            frames = 0
            for _ in encoder.write_all(_until(deadline, islice(_resized(reader, size), most))):
                frames += 1
                progress(frames, 2 * most)
        more = next(reader, None) is not None
    if not frames:
        raise CommandError(f"{source}: no frame in this clip; check the file.")
    with desk.new_folder() as folder:
        beside = folder / "beside.mp4"
        made = Made(folder, folder / f"{source.stem}{codec.suffix}", clip=beside)
        write_bytes(made.file, file.getvalue())
        if size != (info.width, info.height):
            made.remarks.append(
                f"The frames of {info.width}×{info.height} pixels were made smaller: {size[0]}×{size[1]}."
            )
        if more:
            why = f": {deadline.seconds} seconds are over" if frames < most else ""
            made.remarks.append(f"Only the first {frames} frames were coded{why}.")
        with open_clip(source) as again:
            both = zip(_resized(again, size), codec.decoder(io.BytesIO(file.getvalue())), strict=False)
            between = np.full((size[1], _GAP, 3), 255, np.uint8)
            pairs = (np.hstack([original, between, decoded.picture]) for original, decoded in both)
            _write(beside, pairs, info, (2 * size[0] + _GAP, size[1]), lambda n: progress(frames + n, 2 * frames))
    result = Coded(width=size[0], height=size[1], quality=level, size=len(file.getvalue()), frames=frames, fps=info.fps)
    made.figures = _figures(result)
    return made


def open_file(desk: Desk, source: Path, progress: Progress) -> Made:
    """Decode a `.glc` or `.glcv` file to a picture or the first frames of a video.

    Raises:
        FormatError, WeightsError, CommandError, ValueError: it cannot be done.
    """
    name, most = str(source), desk.args.max_frames
    with source.open("rb") as file:
        header = read_header(file, name)
        check_pixels(header, desk.args.max_pixels, name)
        decoder = desk.codec_of(header, name).decoder(file, name, desk.args.max_pixels)
        with desk.new_folder() as folder:
            if not isinstance(header, VideoHeader):
                (frame,) = decoder
                made = Made(folder, folder / f"{source.stem}.png")
                write_picture(made.file, frame.picture)
                made.shown[TITLE] = made.file
                result = Coded(width=header.width, height=header.height, quality=header.quality, size=decoder.size)
            else:
                made = Made(folder, folder / f"{source.stem}.mp4")
                made.clip = made.file
                info = ClipInfo(header.width, header.height, Fraction(*header.fps), header.matrix, header.full_range)
                shown, deadline = shown_frames(decoder, 0), desk.deadline()
                first = next(shown, None)
                if first is None:
                    raise CommandError(_no_frame(decoder, name))
                frames = islice(_until(deadline, chain([first], shown)), most)
                count = _write(made.file, frames, info, (info.width, info.height), lambda n: progress(n, most))
                if (count == most and next(shown, None) is not None) or deadline.over():
                    made.remarks.append(f"Only the first {count} frames are shown.")
                made.remarks += [f"{source.name}: {damage}." for damage in decoder.damages]
                result = Coded(
                    width=info.width, height=info.height, quality=header.quality, size=decoder.size, frames=count,
                    fps=info.fps,
                )  # fmt: skip
    made.figures = _figures(result)
    return made


def _no_frame(decoder: FrameDecoder, name: str) -> str:
    found = "".join(f" ({damage})" for damage in decoder.damages)
    return f"{name}: no frame can be decoded{found}; copy or encode the file again."


def _size(desk: Desk, info: ClipInfo) -> tuple[int, int]:
    """Width and height to code at; even where they are not the clip's own, as H.264 likes them."""
    size = desk.size_within(info.width, info.height)
    return size if size == (info.width, info.height) else (max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2))


def _resized(reader: ClipReader, size: tuple[int, int]) -> Iterator[np.ndarray]:
    return (resized(frame, size) for frame in reader)


def _until(deadline: Deadline, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames that come in time; always the first."""
    for number, frame in enumerate(frames):
        if number and deadline.over():
            return
        yield frame


def _write(
    path: Path, frames: Iterable[np.ndarray], info: ClipInfo, size: tuple[int, int], told: Callable[[int], None]
) -> int:
    """Write a video to look at; returns the number of its frames."""
    with write_clip(path, ClipInfo(*size, info.fps, info.matrix, info.full_range), crf=_CRF) as clip:
        for frame in frames:
            clip.write(frame)
            told(clip.count)
    return clip.count


def _figures(coded: Coded) -> str:
    clip = coded.fps is not None
    head = [
        "",
        "size",
        *(["frames"] if clip else []),
        "quality",
        "bytes",
        "bits per pixel",
        *(["rate"] if clip else []),
    ]
    row = [TITLE, f"{coded.width}×{coded.height}", *([str(coded.frames)] if clip else []), str(coded.quality)]
    row += [f"{coded.size:,}", f"{coded.bpp:.4f}", *([f"{coded.kbps:.1f} kbit/s"] if clip else [])]
    return table(head, [row])
