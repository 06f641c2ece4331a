"""Clips in and out: the right colours, sizes, rates and frames from and to every format."""

import os
import re
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from glc_train.media import ClipError, ClipInfo, open_clip, write_clip, write_picture
from tests.media.clip_files import HEIGHT, WIDTH, centres, colours, encode, grey, noise, patches

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # of red and blue in luma, ITU-R BT.601 and BT.709
ODD = (95, 127)


def yuv(rgb: np.ndarray, matrix: str, full_range: bool) -> list[np.ndarray]:
    """Y, U and V by the formulas of ITU-T H.273, unrounded; the reference for every conversion here."""
    red, green, blue = (rgb[..., k] / 255 for k in range(3))
    kr, kb = WEIGHTS[matrix]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    if full_range:
        return [np.clip(x, 0, 255) for x in (255 * y, 255 * u + 128, 255 * v + 128)]
    return [16 + 219 * y, 128 + 224 * u, 128 + 224 * v]


def planes_of_squares(seed: int) -> list[np.ndarray]:
    """Planes Y, U and V (96, 128), uint8, of `patches(seed)` by BT.709 of limited range."""
    return [np.round(p).astype(np.uint8).repeat(16, 0).repeat(16, 1) for p in yuv(colours(seed), "bt709", False)]


def info(**changes: object) -> ClipInfo:
    settings = {"width": WIDTH, "height": HEIGHT, "fps": Fraction(30000, 1001), "matrix": "bt709", "full_range": False}
    return ClipInfo(**(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".y4m"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_and_tags_come_back(tmp_path: Path, suffix: str, matrix: str, full_range: bool) -> None:
    path = tmp_path / f"clip{suffix}"
    written = info(matrix=matrix, full_range=full_range)
    with write_clip(path, written, crf=1) as clip:
        for seed in range(3):
            clip.write(patches(seed))
    with open_clip(path) as reader:
        frames = list(reader)
    read = reader.info
    assert (read.width, read.height, read.fps) == (WIDTH, HEIGHT, Fraction(30000, 1001))
    assert (read.matrix, read.full_range) == (matrix, full_range)
    assert read.frames in (3, None)
    assert len(frames) == 3
    for seed, frame in enumerate(frames):
        assert frame.dtype == np.uint8
        assert np.abs(centres(frame) - centres(patches(seed))).max() <= 2
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_y4m_holds_the_values_of_the_standard(tmp_path: Path, matrix: str, full_range: bool) -> None:
    with write_clip(tmp_path / "clip.y4m", info(matrix=matrix, full_range=full_range)) as clip:
        clip.write(patches())
    header, marker, data = (tmp_path / "clip.y4m").read_bytes().split(b"\n", 2)
    assert header.startswith(b"YUV4MPEG2 W128 H96 F30000:1001 Ip A1:1 C444 ")
    assert marker == b"FRAME"
    planes = np.frombuffer(data, np.uint8).reshape(3, HEIGHT, WIDTH)
    for plane, wanted in zip(planes, yuv(colours(), matrix, full_range), strict=True):
        assert np.abs(centres(plane) - wanted).max() < 1.1


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_mp4_holds_the_values_and_tags_of_the_standard(tmp_path: Path, matrix: str, full_range: bool) -> None:
    with write_clip(tmp_path / "clip.mp4", info(matrix=matrix, full_range=full_range), crf=1) as clip:
        clip.write(patches())
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (6 if matrix == "bt601" else 1, 2 if full_range else 1)
    assert frame.format.name in ("yuv420p", "yuvj420p")
    luma = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(HEIGHT, -1)[:, :WIDTH]
    assert np.abs(centres(luma) - yuv(colours(), matrix, full_range)[0]).max() < 2.5


@pytest.mark.parametrize("height", [HEIGHT, 95])
def test_raw_video_is_bt709_of_limited_range(tmp_path: Path, height: int) -> None:
    path, width = tmp_path / "clip.yuv", height + 32
    with path.open("wb") as file:
        for seed in range(2):
            planes = [
                np.round(p).astype(np.uint8).repeat(16, 0).repeat(16, 1) for p in yuv(colours(seed), "bt709", False)
            ]
            file.write(planes[0][:height, :width].tobytes())
            file.writelines(plane[:height:2, :width:2].tobytes() for plane in planes[1:])
    with open_clip(path, size=(width, height), fps=Fraction(50)) as reader:
        frames = list(reader)
    assert reader.info == ClipInfo(width, height, Fraction(50), "bt709", False, 2)
    for seed, frame in enumerate(frames):
        assert frame.shape == (height, width, 3)
        assert np.abs(centres(frame) - centres(patches(seed))).max() <= 2
    with open_clip(path, size=(width, height)) as reader:
        assert reader.info.fps == 25


@pytest.mark.parametrize(("height", "matrix"), [(HEIGHT, "bt601"), (720, "bt709")])
def test_untagged_video_goes_by_its_height(tmp_path: Path, height: int, matrix: str) -> None:
    with open_clip(encode(tmp_path / "clip.mp4", [grey(128, height, 64)])) as reader:
        assert (reader.info.matrix, reader.info.full_range) == (matrix, False)


def test_untagged_y4m_is_bt709_as_the_protocol_has_it(tmp_path: Path) -> None:
    planes = planes_of_squares(0)
    header = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F50:1 Ip A1:1 C420jpeg\nFRAME\n".encode()
    data = planes[0].tobytes() + b"".join(plane[::2, ::2].tobytes() for plane in planes[1:])
    (tmp_path / "clip.y4m").write_bytes(header + data)
    with open_clip(tmp_path / "clip.y4m") as reader:
        assert reader.info == ClipInfo(WIDTH, HEIGHT, Fraction(50), "bt709", False, 1)
        assert np.abs(centres(next(reader)) - centres(patches())).max() <= 2


def test_a_folder_of_frames_is_lossless_and_in_natural_order(tmp_path: Path) -> None:
    pictures = noise(11)
    with write_clip(tmp_path / "frames", info()) as clip:
        for picture in pictures:
            clip.write(picture)
    assert sorted(os.listdir(tmp_path / "frames"))[:2] == ["000000.png", "000001.png"]
    (tmp_path / "vimeo").mkdir()
    for k, picture in enumerate(pictures, start=1):
        write_picture(tmp_path / "vimeo" / f"im{k}.png", picture)
    for folder in ("frames", "vimeo"):
        with open_clip(tmp_path / folder) as reader:
            np.testing.assert_array_equal(np.stack(list(reader)), np.stack(pictures))
        assert reader.info == ClipInfo(WIDTH, HEIGHT, Fraction(25), "bt709", False, 11)
    with open_clip(tmp_path / "vimeo", fps=Fraction(30)) as reader:
        assert reader.info.fps == 30


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm", "clip.y4m", "frames"])
def test_one_frame_of_odd_sides(tmp_path: Path, name: str) -> None:
    picture = patches()[: ODD[0], : ODD[1]]
    with write_clip(tmp_path / name, info(height=ODD[0], width=ODD[1]), crf=1) as clip:
        clip.write(picture)
    with open_clip(tmp_path / name) as reader:
        frames = list(reader)
    assert len(frames) == 1
    assert frames[0].shape == (*ODD, 3)
    assert np.abs(centres(frames[0]) - centres(picture)).max() <= 2


def test_ten_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    path = encode(tmp_path / "deep.mkv", [patches()], "ffv1", "yuv444p10le")
    with open_clip(path) as reader:
        assert np.abs(centres(next(reader)) - centres(patches())).max() <= 2


def test_rgb_video_keeps_its_pixels(tmp_path: Path) -> None:
    with open_clip(encode(tmp_path / "clip.mkv", noise(2), "ffv1", "bgr0")) as reader:
        np.testing.assert_array_equal(np.stack(list(reader)), np.stack(noise(2)))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_display_matrix_is_applied(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = encode(tmp_path / "turned.mp4", [patches()] * 2, rotation=(degrees, mirrored, False))
    with open_clip(encode(tmp_path / "upright.mp4", [patches()] * 2)) as reader:
        wanted = np.rot90(next(reader), degrees // 90)
    if mirrored:
        wanted = wanted[:, ::-1]
    with open_clip(path) as reader:
        assert (reader.info.height, reader.info.width) == wanted.shape[:2]
        np.testing.assert_array_equal(next(reader), wanted)


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(10), Fraction(120)]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_constant_rates_are_read_exactly_and_without_a_warning(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    path = encode(tmp_path / f"clip{suffix}", [grey(k) for k in range(40)], rate=rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_clip(path) as reader:
            assert len(list(reader)) == 40
    assert reader.info.fps == rate
    with open_clip(path, fps=Fraction(12)) as reader:
        assert reader.info.fps == 12


def test_a_variable_rate_is_taken_as_constant_with_a_warning(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 7, 8, 9, 14, 15]
    path = encode(tmp_path / "phone.mp4", [grey(20 * k) for k in range(10)], times=times)
    with open_clip(path) as reader, pytest.warns(UserWarning, match=r"phone\.mp4: frames do not come at a") as caught:
        frames = list(reader)
    assert len(caught) == 1
    assert len(frames) == 10
    assert 25 * 9 / 15 < reader.info.fps < 25


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path) -> None:
    with write_clip(tmp_path / "12:30.mp4", info()) as clip:
        clip.write(patches())
    with open_clip(tmp_path / "12:30.mp4") as reader:
        assert len(list(reader)) == 1


@pytest.mark.parametrize("name", ["clip.mp4", "clip.yuv", "frames"])
def test_frames_are_read_one_at_a_time(tmp_path: Path, name: str) -> None:
    if name == "clip.yuv":
        (tmp_path / name).write_bytes(bytes(WIDTH * HEIGHT * 3 // 2) * 100)
    else:
        with write_clip(tmp_path / name, info()) as clip:
            for level in range(100):
                clip.write(grey(level))
    with open_clip(tmp_path / name, size=(WIDTH, HEIGHT)) as reader:
        tracemalloc.start()
        count = sum(1 for _ in reader)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 100
    assert peak < 12 * WIDTH * HEIGHT * 3


def test_a_reader_ends_when_it_is_closed(tmp_path: Path) -> None:
    reader = open_clip(encode(tmp_path / "clip.mp4", [grey(k) for k in range(5)]))
    first = next(reader)
    reader.close()
    assert list(reader) == []
    assert first.shape == (HEIGHT, WIDTH, 3)
    reader.close()


def write(path: Path, *pictures: np.ndarray, then: type[BaseException] | None = None, **change: Any) -> None:
    with write_clip(path, info(**change)) as clip:
        for picture in pictures:
            clip.write(picture)
            assert path.is_dir() or not path.exists()
        if then:
            raise then


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.y4m", "frames"])
def test_a_clip_appears_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        write(path, patches(), then=KeyboardInterrupt)
    with pytest.raises(ClipError, match=rf"{name}: no frame to write"):
        write(path)
    with pytest.raises(ClipError, match=rf"{name}: frame 1 is uint8 \(8, 8, 3\), expected"):
        write(path, patches(), grey(0, 8, 8))
    assert os.listdir(tmp_path) == []
    write(path, patches())
    assert os.listdir(tmp_path) == [name]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask


def test_old_files_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "clip.y4m").write_bytes(b"old")
    (tmp_path / "frames").mkdir()
    with write_clip(tmp_path / "clip.y4m", info()) as clip:
        clip.write(patches())
    write(tmp_path / "frames", patches())
    for name in ("clip.y4m", "frames"):
        with open_clip(tmp_path / name) as reader:
            assert len(list(reader)) == 1


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"clip\.xyz: cannot write '\.xyz' clips; use \.mp4"):
        write(tmp_path / "clip.xyz", patches())
    (tmp_path / "file").touch()
    for name in ("clip.mp4", "clip.y4m", "frames"):
        with pytest.raises(ClipError, match=rf"{name}: cannot be written \(\w.*\); check the folder"):
            write(tmp_path / "file" / name, patches())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ClipError, match="full: the folder is not empty"):
        write(tmp_path / "full", patches())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.mp4", {"width": 20000, "height": 16}),
        ("a.mkv", {"fps": Fraction(2**32 - 1)}),
        ("a.mp4", {"fps": Fraction(1, 2**31 - 1)}),
        ("a.webm", {"fps": Fraction(2**31 - 1)}),
    ],
)
def test_what_a_kind_of_file_cannot_hold_is_no_fault_of_the_disk(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    format_ = info(**change)
    words = f"{format_.width}×{format_.height} pixels at {format_.fps} frames a second; a .y4m file or"
    frames = [grey(0, format_.height, format_.width)] * 2
    with pytest.raises(ClipError, match=rf"{name}: a file of this kind cannot hold {re.escape(words)}"):
        write(tmp_path / name, *frames, **change)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("change", [{"width": 0}, {"height": -1}, {"fps": Fraction(0)}, {"matrix": "bt2020"}])
def test_impossible_formats_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ClipError, match="A clip"):
        info(**change)
