"""Raw video stored without loss: the same samples, the same pictures, and BT.709 by its formulas."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from glc_train.media import ClipError, open_clip
from glc_train.media.clip_colour import planes_of
from glc_train.media.raw_video import store_raw_video

WIDTH, HEIGHT, FRAMES = 96, 64, 5


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.yuv"
    size = FRAMES * WIDTH * HEIGHT * 3 // 2
    path.write_bytes(np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes())
    return path


@pytest.mark.parametrize("fps", [Fraction(120), Fraction(30000, 1001)])
def test_samples_and_pictures_are_those_of_the_raw_file(raw: Path, tmp_path: Path, fps: Fraction) -> None:
    stored = tmp_path / "new/stored.mkv"
    store_raw_video(raw, (WIDTH, HEIGHT), fps, stored)
    with av.open(stored) as container:
        samples = b"".join(plane.tobytes() for frame in container.decode(video=0) for plane in planes_of(frame))
    assert samples == raw.read_bytes()
    with open_clip(stored) as ours, open_clip(raw, (WIDTH, HEIGHT), fps) as theirs:
        assert (ours.info.matrix, ours.info.full_range) == ("bt709", False)
        assert ours.info.fps == fps
        np.testing.assert_array_equal(list(ours), list(theirs))


@pytest.mark.parametrize("yuv", [(16, 128, 128), (235, 128, 128), (63, 102, 240), (173, 42, 26), (120, 90, 160)])
def test_colours_follow_bt709(tmp_path: Path, yuv: tuple[int, int, int]) -> None:
    planes = [np.full(size, value, np.uint8) for size, value in zip((64 * 64, 32 * 32, 32 * 32), yuv, strict=True)]
    (tmp_path / "flat.yuv").write_bytes(b"".join(plane.tobytes() for plane in planes))
    store_raw_video(tmp_path / "flat.yuv", (64, 64), Fraction(50), tmp_path / "flat.mkv")
    luma, blue, red = (yuv[0] - 16) / 219, (yuv[1] - 128) / 224, (yuv[2] - 128) / 224
    kr, kb = 0.2126, 0.0722  # ITU-R BT.709, item 3.2
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    expected = np.clip(np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b]), 0, 1) * 255
    with open_clip(tmp_path / "flat.mkv") as clip:
        assert np.abs(next(clip).astype(float) - expected).max() <= 1.0


def test_a_raw_file_that_is_cut_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    raw.write_bytes(raw.read_bytes()[:-1])
    with pytest.raises(ClipError, match="not a whole number of 96×64 frames"):
        store_raw_video(raw, (WIDTH, HEIGHT), Fraction(30), tmp_path / "new/stored.mkv")
    assert not list(tmp_path.rglob("*.mkv"))
