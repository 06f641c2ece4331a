"""Clips of real life: lost and damaged frames are counted, odd clocks keep their duration, HDR is refused."""

import io
import re
import warnings
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from glc_train.data import FolderClips
from glc_train.media import ClipError, open_clip
from glc_train.media.clip_colour import Colours
from glc_train.media.clip_damage import Damage
from glc_train.media.video_file import VideoFile
from tests.media.clip_files import PATCH, TS_PACKET, centres, drop_ts_packet, encode, noise, patches

COUNT = 40


def moving(count: int = COUNT) -> list[np.ndarray]:
    return [np.roll(patches(3), (k, 2 * k), (0, 1)) for k in range(count)]


def read(path: Path) -> tuple[list[np.ndarray], list[str], Any]:
    """Frames, warnings and the clip's format."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_clip(path) as reader:
            frames = list(reader)
    return frames, [str(warning.message) for warning in caught], reader.info


def packets_of(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, numbers: list[int], value: int = 0xFF) -> None:
    """Overwrite what lies in the middle of some coded frames."""
    data = bytearray(path.read_bytes())
    packets = packets_of(path)
    for number in numbers:
        start, size = packets[number].pos, packets[number].size
        data[start + 5 : start + size] = bytes([value]) * (size - 5)
    path.write_bytes(data)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_a_lost_ts_packet_is_counted_and_no_cut(tmp_path: Path, codec: str) -> None:
    path = encode(tmp_path / "broadcast.ts", noise(20), codec, options={"g": "10"})
    whole, said, _ = read(path)
    assert len(whole) == 20
    assert said == []
    drop_ts_packet(path)
    frames, said, info = read(path)
    assert info.frames == 20
    assert len(said) == 1
    assert said[0].startswith(f"{path}: damaged video: of 20 frames ")
    lost = 20 - len(frames)
    assert (f"{lost} could not be decoded" in said[0]) == bool(lost)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.webm", "libvpx"), ("a.avi", "mjpeg")],
)
def test_frames_that_are_lost_are_counted(tmp_path: Path, name: str, codec: str) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = encode(tmp_path / name, moving(), codec, pixel_format, options={"g": "8"})
    overwrite(path, [11, 21])
    frames, said, info = read(path)
    lost = COUNT - len(frames)
    assert info.frames == COUNT
    assert lost or "came out damaged" in said[0]
    assert len([text for text in said if "damaged video" in text]) == 1
    if lost:
        assert any(f"{path}: damaged video: of {COUNT} frames {lost} could not be decoded" in text for text in said)


@pytest.mark.parametrize("seed", range(6))
def test_no_frame_is_lost_in_silence(tmp_path: Path, seed: int) -> None:
    path = encode(tmp_path / "a.mp4", moving(), options={"g": "12"})
    random = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in random.integers(len(data) // 6, len(data) * 9 // 10, 12):
        data[place] ^= 1 << int(random.integers(8))
    path.write_bytes(data)
    try:
        frames, said, _ = read(path)
    except ClipError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
    else:
        assert (len(frames) < COUNT) == any(" could not be decoded" in text for text in said)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=8"}),
        ("a.mkv", "libx265", {"x265-params": "open-gop=1:keyint=8:log-level=none"}),
        ("a.ts", "libx264", {"bf": "3", "g": "8"}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200000"}),
        ("a.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("a.mkv", "libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1"}),
        ("a.mov", "prores", {}),
        ("a.h264", "libx264", {}),
    ],
)
def test_sound_clips_are_not_called_damaged(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = encode(tmp_path / name, moving(), codec, "yuv422p10le" if codec == "prores" else "yuv420p", options=options)
    frames, said, _ = read(path)
    assert len(frames) == COUNT
    assert said == []


def test_hidden_frames_of_vp8_are_not_missed(tmp_path: Path) -> None:
    sound = encode(tmp_path / "sound.webm", moving(12), "libvpx", options={"g": "99"})
    with av.open(str(sound)) as source, av.open(str(tmp_path / "hidden.webm"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            data, time = bytearray(bytes(packet)), packet.pts
            copies = [(data, time)]
            if time == 200:  # ms: repeated without being shown, as reference for what follows
                copies = [(bytearray([data[0] & ~0x10]) + data[1:], time - 20), *copies]
            for copy, shown_at in copies:
                new = av.Packet(bytes(copy))
                new.stream, new.time_base, new.pts, new.dts = stream, packet.time_base, shown_at, shown_at
                new.is_keyframe = packet.is_keyframe
                target.mux(new)
    assert len(packets_of(tmp_path / "hidden.webm")) == 13
    frames, said, info = read(tmp_path / "hidden.webm")
    assert (len(frames), said, info.frames, info.fps) == (12, [], 12, 25)


def test_a_recording_that_begins_between_key_frames_is_not_damaged(tmp_path: Path) -> None:
    path = encode(tmp_path / "tuned_in.ts", moving(), options={"g": "10", "bf": "2", "x264-params": "open-gop=1"})
    data = path.read_bytes()
    start = next(p.pos for p in packets_of(path)[4:]) // TS_PACKET * TS_PACKET
    path.write_bytes(data[: 2 * TS_PACKET] + data[start:])
    frames, said, _ = read(path)
    assert 25 <= len(frames) < COUNT
    assert not any("damaged" in text for text in said)


def test_a_damaged_stretch_does_not_end_training(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", noise(24), options={"g": "4", "bf": "0"})
    drop_ts_packet(path)
    source = FolderClips(tmp_path, 32, 0, 2)
    read_, refused = 0, []
    for index in range(30):
        try:
            assert source.sample(index).shape == (2, 3, 32, 32)
            read_ += 1
        except ClipError as error:
            refused.append(str(error))
    assert read_ >= 20
    assert all(str(tmp_path) in message for message in refused)


def motion_jpeg(path: Path, orientation: int) -> Path:
    """An AVI of JPEG pictures with EXIF data, as cameras write it; the stored pictures are `patches()`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj444p"
        for number in range(4):
            file = io.BytesIO()
            Image.fromarray(patches()).save(file, "JPEG", quality=95, subsampling=0, exif=exif)
            packet = av.Packet(file.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_side_data_that_pyav_does_not_know_is_no_obstacle(tmp_path: Path, orientation: int) -> None:
    frames, said, _ = read(motion_jpeg(tmp_path / "camera.avi", orientation))
    upright = np.rot90(patches(), {1: 0, 3: 2, 6: -1}[orientation])
    assert len(frames) == 4
    assert said == []
    assert frames[0].shape == upright.shape
    assert np.abs(centres(frames[0]) - centres(upright)).max() <= 6
    crop = FolderClips(tmp_path, PATCH, 0, 2).sample(0)
    assert crop.shape == (2, 3, PATCH, PATCH)


VARIABLE = [0, 1, 2, 3, 4, 30, 31, 32, 75, 76, 77, 78]  # in frames of 25 a second: 3.16 seconds


@pytest.mark.parametrize(
    ("name", "codec", "muxer"),
    [
        ("a.mkv", "libx264", {}),
        ("a.mp4", "libx264", {}),
        ("a.mov", "libx264", {}),
        ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.ts", "libx264", {}),
    ],
)
def test_a_variable_rate_keeps_its_duration(tmp_path: Path, name: str, codec: str, muxer: dict[str, str]) -> None:
    path = encode(tmp_path / name, moving(12), codec, times=VARIABLE, muxer=muxer, options={"bf": "0", "g": "4"})
    frames, said, info = read(path)
    assert len(frames) == 12
    assert 12 / info.fps == pytest.approx(3.16, rel=0.05)
    assert len(said) == 1
    assert f"{path}: frames do not come at a constant rate; taken as " in said[0]
    with open_clip(path, fps=Fraction(25)) as reader:
        assert reader.info.fps == 25


def test_a_rate_that_the_head_has_wrong_is_corrected(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", moving(30), times=[2 * k for k in range(30)])  # said to be 25, really 12.5
    frames, _, info = read(path)
    assert len(frames) == 30
    assert info.fps == pytest.approx(12.5, rel=0.04)


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("primaries", [1, 9])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_hdr_is_refused_under_any_primaries(
    tmp_path: Path, name: str, transfer: int, word: str, primaries: int
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 1, primaries, transfer
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(patches(), "rgb24").reformat(format="yuv420p")
            frame.colorspace, frame.color_primaries, frame.color_trc = 1, primaries, transfer
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ClipError, match=rf"{name}: the video is HDR \({word} transfer\), .* convert it to SDR"):
        open_clip(path)


@pytest.mark.parametrize("error", [ValueError("31 is not\nvalid"), RuntimeError("x"), KeyError(7), IndexError()])
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = encode(tmp_path / "a.mp4", moving(3))

    def fail(*_: object) -> Any:
        raise error

    broken_packet = SimpleNamespace(decode=fail, size=0, is_discard=False)
    with VideoFile(path) as file:
        sound = file._container
        for demux in (fail, lambda stream: [broken_packet]):
            file._container = SimpleNamespace(demux=demux)
            with pytest.raises(
                ClipError, match=rf"^{re.escape(str(path))}: damaged video \([^\n]+\); replace the file"
            ):
                list(file.frames(Damage()))
        file._container = sound
    monkeypatch.setattr(Colours, "to_picture", fail)
    with pytest.raises(
        ClipError, match=rf"^{re.escape(str(path))}: frames of the format yuv420p .*\([^\n]+\); convert"
    ):
        open_clip(path)
