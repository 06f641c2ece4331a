"""Crops of a JPEG with restart markers are decoded without the rest of it, with the pixels of the whole."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from glc_train.data import CropSource, FolderCrops, PictureEncoder, ShardCrops, render_picture, write_shards
from glc_train.data import jpeg_part as module
from glc_train.data.crops import RandomCrops
from glc_train.data.jpeg_part import JpegParts
from glc_train.media import PictureError
from glc_train.media.pictures import decode_picture, decode_plain_jpeg, write_picture

PICTURE = render_picture(150, 203, seed=1)


def jpeg(picture: Any = PICTURE, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(
        file, "JPEG", **{"quality": 90, "subsampling": 0, "restart_marker_blocks": 4, **options}
    )
    return file.getvalue()


@settings(max_examples=60, deadline=None)
@example(side=(121, 129), mode="RGB", blocks=16, rows=(0, 121), columns=(16, 9))  # the last interval in a middle row
@given(
    side=st.tuples(st.integers(1, 150), st.integers(1, 203)),
    mode=st.sampled_from(["RGB", "L"]),
    blocks=st.integers(1, 26),
    rows=st.tuples(st.integers(0, 149), st.integers(1, 150)),
    columns=st.tuples(st.integers(0, 202), st.integers(1, 203)),
)
def test_a_part_has_the_pixels_of_the_whole(
    side: tuple[int, int], mode: str, blocks: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    data = jpeg(PICTURE[: side[0], : side[1]], mode, restart_marker_blocks=blocks)
    found = JpegParts.of(data)
    if blocks > -(-side[1] // 8):
        assert found is None
        return
    assert found is not None
    assert (found.height, found.width) == side
    (top, bottom), (left, right) = (
        (min(first, end - 1), min(end, first + length))
        for (first, length), end in zip((rows, columns), side, strict=True)
    )
    decoded = found.decode(top, left, bottom, right)
    if decoded is None:  # the short interval at the end
        assert bottom > side[0] - 8
        assert (-(-side[0] // 8) * -(-side[1] // 8)) % blocks
        return
    row, column, part = decoded
    whole = decode_picture(data, "x")
    assert np.array_equal(part[top - row : bottom - row, left - column : right - column], whole[top:bottom, left:right])


def test_no_more_is_decoded_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def decode(data: bytes) -> Any:
        shapes.append(Image.open(io.BytesIO(data)).size)
        return decode_plain_jpeg(data)

    monkeypatch.setattr(module, "decode_plain_jpeg", decode)
    found = JpegParts.of(jpeg())
    assert found is not None
    decoded = found.decode(20, 30, 100, 110)
    assert decoded is not None
    assert (decoded[0], decoded[1], decoded[2].shape) == (16, 24, (88, 88, 3))
    assert shapes == [(128, 88)]  # blocks 3 to 13 of 26 in a row lie in four intervals of four


@pytest.mark.parametrize(
    "options",
    [{"restart_marker_blocks": 0}, {"progressive": True}, {"subsampling": 2}, {"restart_marker_blocks": 27}],
    ids=str,
)
def test_other_jpegs_are_left_to_the_decoder(options: dict[str, Any]) -> None:
    assert JpegParts.of(jpeg(**options)) is None


def test_a_turned_or_too_large_picture_is_left_to_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert JpegParts.of(jpeg(exif=exif)) is None
    assert JpegParts.of(jpeg()) is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert JpegParts.of(jpeg()) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_never_raises_anything_else(data: st.DataObject) -> None:
    """A changed, lost or added byte gives pixels or a PictureError."""
    good = jpeg(PICTURE[:48, :64])
    place = data.draw(st.integers(0, len(good) - 1))
    tail = data.draw(st.integers(0, 2))
    bad = good[:place] + data.draw(st.binary(max_size=2)) + good[place + tail :]
    try:
        crop = RandomCrops(32, scale_probability=0).cut_from(bad, "x", np.random.default_rng(0))
    except PictureError:
        return
    assert crop.shape == (32, 32, 3)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_crops_of_folders_and_shards_are_those_of_whole_pictures(
    tmp_path: Path, probability: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_picture(tmp_path / "in" / f"{number}.jpg", render_picture(150, 203, seed=number))
    write_shards(tmp_path / "in", tmp_path / "kept", PictureEncoder())
    write_shards(tmp_path / "in", tmp_path / "reduced", PictureEncoder(short_side=100, format="jpeg"))
    settings_: dict[str, Any] = {"crop_size": 64, "seed": 0, "scale_probability": probability}

    def crops() -> list[Any]:
        sources: list[CropSource] = [
            FolderCrops(tmp_path / "in", cache_mb=0, **settings_),
            ShardCrops(str(tmp_path / "kept"), **settings_),
            ShardCrops(str(tmp_path / "reduced"), **settings_),
        ]
        return [source.sample(k).numpy() for source in sources for k in range(6)]

    whole: list[str] = []

    def noted(data: bytes, name: str) -> Any:
        whole.append(name)
        return decode_picture(data, name)

    with monkeypatch.context() as patch:
        patch.setattr("glc_train.data.crops.decode_picture", noted)
        part = crops()
    assert len(whole) <= len(part) // 3  # in some crops lies the last interval, a short one
    monkeypatch.setattr(module.JpegParts, "of", lambda data: None)
    assert all(np.array_equal(one, other) for one, other in zip(part, crops(), strict=True))


def test_a_folder_whose_pictures_fit_into_memory_keeps_them(tmp_path: Path) -> None:
    write_picture(tmp_path / "0.jpg", PICTURE)
    source = FolderCrops(tmp_path, crop_size=64, seed=0)
    crop = source.sample(0)
    (tmp_path / "0.jpg").unlink()
    assert np.array_equal(source.sample(0), crop)
