"""Files of real life, made elsewhere: each read as a person would expect, or refused in one sentence.

What the same kinds of trouble look like in other files is tested beside the readers, without these.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

from glc_train.data import find_clips
from glc_train.media import ClipError, PictureError, open_clip, read_picture


@pytest.fixture
def hard(shared: Path) -> Path:
    folder = shared / "data" / "hard"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder


def picture(path: Path) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = read_picture(path)
    return pixels.astype(int), [str(warning.message).removeprefix(f"{path}: ") for warning in caught]


def test_pictures_that_are_read(hard: Path) -> None:
    plain = picture(hard / "plain.png")[0]
    several, alpha = "several frames or pages; only the first is read.", "the alpha channel is dropped."
    for name, tolerance, remarks in (
        ("rgb16.png", 1, []),
        ("cmyk.jpg", 3, []),
        ("two.mpo", 3, []),
        ("anim.gif", 12, [several]),
        ("anim.webp", 6, [several]),
        ("palette_trns.png", 30, [alpha]),
    ):
        pixels, said = picture(hard / name)
        assert pixels.shape == plain.shape, name
        assert np.abs(pixels - plain).mean() <= tolerance, name
        assert said == remarks, name


def test_orientations_agree(hard: Path) -> None:
    upright, said = picture(hard / "orient6.png")
    assert upright.shape == (128, 96, 3)
    np.testing.assert_array_equal(picture(hard / "orient6.tif")[0], upright)
    assert np.abs(picture(hard / "orient6.jpg")[0] - upright).mean() < 3
    assert said == []


def test_min_is_white_is_no_negative(hard: Path) -> None:
    np.testing.assert_array_equal(
        picture(hard / "grey16_miniswhite.tif")[0], picture(hard / "grey16_minisblack.tif")[0]
    )


@pytest.mark.parametrize("name", ["damaged.avif", "cut.jpg"])
def test_pictures_that_are_refused(hard: Path, name: str) -> None:
    with pytest.raises(PictureError, match=rf"{name}: not a readable picture"):
        read_picture(hard / name)


@pytest.mark.parametrize(
    ("name", "frames", "seconds", "remark"),
    [
        ("whole.ts", 40, 1.6, None),
        ("lost_packet.ts", 40, 1.6, "damaged video: of 40 frames "),
        ("mjpeg_exif.avi", 4, 0.16, None),
        ("vfr.mkv", 12, 3.2, "frames do not come at a constant rate"),
        ("vfr.mp4", 12, 3.2, "frames do not come at a constant rate"),
    ],
)
def test_clips_that_are_read(hard: Path, name: str, frames: int, seconds: float, remark: str | None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_clip(hard / name) as clip:
            assert len(list(clip)) == frames
    assert frames / clip.info.fps == pytest.approx(seconds, rel=0.05)
    said = [str(warning.message).removeprefix(f"{hard / name}: ") for warning in caught]
    assert len(said) == (remark is not None)
    assert all(text.startswith(str(remark)) for text in said)


def test_hdr_is_refused(hard: Path) -> None:
    with pytest.raises(ClipError, match=r"hdr_pq_709\.mp4: the video is HDR \(PQ"):
        open_clip(hard / "hdr_pq_709.mp4")


@pytest.mark.parametrize("name", ["list_bom.txt", "list_crlf.txt"])
def test_every_line_of_a_list_counts(hard: Path, name: str) -> None:
    assert [path.name for path in find_clips(hard / name)] == ["plain.mp4", "vfr.mp4"]
