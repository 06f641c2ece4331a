"""Clips that cannot be used: one clear sentence each, and never another exception."""

import re
import warnings
import wave
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.media import ClipError, ClipInfo, open_clip, write_clip, write_picture
from tests.media.clip_files import HEIGHT, WIDTH, encode, grey, noise, patches


def read(path: Path) -> list[np.ndarray]:
    """All frames, whatever warnings come with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_clip(path) as reader:
            return list(reader)


def refused(path: Path, words: str) -> None:
    """Opening or reading the clip says `words` after its name, in one line."""
    with pytest.raises(ClipError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert re.search(words, message[len(str(path)) :])


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_mp4_cut_short(tmp_path: Path, share: float) -> None:
    refused(cut(encode(tmp_path / "index_last.mp4", noise(8)), share), "not a readable video file")
    index_first = encode(tmp_path / "index_first.mp4", noise(8), muxer={"movflags": "faststart"})
    refused(cut(index_first, share), "cut short|not a readable video file")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_other_files_cut_short(tmp_path: Path, name: str, codec: str, share: float) -> None:
    refused(cut(encode(tmp_path / name, noise(12), codec), share), "cut short|without frames|not a readable")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_y4m_cut_short(tmp_path: Path, share: float) -> None:
    with write_clip(tmp_path / "clip.y4m", ClipInfo(WIDTH, HEIGHT, Fraction(25), "bt709", False)) as clip:
        for picture in noise(3):
            clip.write(picture)
    refused(cut(tmp_path / "clip.y4m", share), "cut short|not a readable|without frames")


def silent(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))


def resized(path: Path) -> None:
    parts = [encode(path.with_suffix(f".{k}.h264"), [grey(90, 64 + k, 64)] * 3).read_bytes() for k in (0, 16)]
    path.write_bytes(b"".join(parts))


def mixed_folder(path: Path) -> None:
    path.mkdir()
    for k, side in enumerate((64, 64, 32)):
        write_picture(path / f"{k}.png", grey(9, side, side))


def broken_frame(path: Path) -> None:
    path.mkdir()
    write_picture(path / "0.png", grey(9))
    (path / "1.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("gone.mp4", lambda path: None, "no such file; check the path"),
        ("gone.yuv", lambda path: None, "no such file; check the path"),
        ("empty.mp4", Path.touch, "not a readable video file .* replace or remove"),
        ("text.mp4", lambda path: path.write_text("not a video\n" * 100), "not a readable video file"),
        ("notes.txt", lambda path: path.write_text("plain text\n" * 100), "no video in this file|not a readable"),
        ("sound.wav", silent, "no video in this file"),
        ("resized.h264", resized, "size changes from 64×64 to 64×80 pixels; cut the video there"),
        ("wide_gamut.mkv", lambda path: encode(path, [grey(9)], tags=(9, 1)), "matrix 9 .* convert .* to BT.709"),
        ("empty", Path.mkdir, "no pictures in this folder"),
        ("mixed", mixed_folder, "32×32 pixels, but the first frame of the folder has 64×64"),
        ("broken", broken_frame, "not a readable picture"),
        ("raw.yuv", lambda path: path.write_bytes(bytes(96)), "does not say its size; give its width and height"),
    ],
)
def test_what_is_no_clip(tmp_path: Path, name: str, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / name)
    refused(tmp_path / name, words)


@pytest.mark.parametrize(
    ("size", "words"),
    [((8, 8), "150 bytes are not a whole number of 8×8 frames of 96 bytes"), ((0, 8), "must be positive; got 0×8")],
)
def test_raw_video_of_another_size(tmp_path: Path, size: tuple[int, int], words: str) -> None:
    (tmp_path / "raw.yuv").write_bytes(bytes(150))
    with pytest.raises(ClipError, match=words):
        open_clip(tmp_path / "raw.yuv", size=size)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n"),
        ("a.mp4", "ffconcat version 1.0\nfile {0.name}\n"),
    ],
)
def test_a_playlist_shows_no_other_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text.format(encode(tmp_path / "private.mp4", [grey(9)] * 3)))
    refused(tmp_path / name, r"not a readable video file \(damaged, or a playlist of other files, which is not")


def test_a_name_with_a_pattern_shows_no_other_picture(tmp_path: Path) -> None:
    for name in ("a%d.png", "a0.png", "a1.png"):
        write_picture(tmp_path / name, grey(9))
    refused(tmp_path / "a%d.png", "a playlist of other files, which is not followed")


@lru_cache
def original(folder: Path, name: str) -> bytes:
    codec = {".avi": "mpeg4", ".webm": "libvpx-vp9"}.get(Path(name).suffix, "libx264")
    return encode(folder / f"original-{name}", [patches(k) for k in range(6)], codec, options={"g": "3"}).read_bytes()


@given(
    name=st.sampled_from(["a.mp4", "a.mkv", "a.webm", "a.avi"]),
    place=st.floats(0, 1, exclude_max=True),
    values=st.binary(min_size=1, max_size=40),
)
def test_damage_anywhere_gives_frames_or_a_clip_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: float, values: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(original(folder, name))
    at = int(place * len(data))
    data[at : at + len(values)] = values
    path = folder / f"damaged-{name}"
    path.write_bytes(data)
    try:
        assert len({frame.shape for frame in read(path)}) == 1
    except ClipError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


@given(
    start=st.sampled_from(
        [b"", b"YUV4MPEG2 W2 H2 F1:1\n", b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF", b"GIF89a"]
    ),
    data=st.binary(max_size=300),
    suffix=st.sampled_from([".mp4", ".y4m", ".mkv"]),
)
def test_any_bytes_give_a_clip_or_a_clip_error(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    path.write_bytes(start + data)
    try:
        assert len({frame.shape for frame in read(path)}) == 1
    except ClipError as error:
        assert str(path) in str(error)  # noqa: PT017
