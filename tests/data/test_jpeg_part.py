"""Crops of a JPEG are decoded with as little of the rest of it as possible, with the pixels of the whole."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from glc_train.data import CropSource, FolderCrops, PictureEncoder, ShardCrops, render_picture, write_shards
from glc_train.data import jpeg_part as module
from glc_train.data.crops import Crop, RandomCrops, channels_first, stacked
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
    check_part(data, side, rows, columns)


@settings(max_examples=60, deadline=None)
@given(
    side=st.tuples(st.integers(1, 150), st.integers(1, 203)),
    mode=st.sampled_from(["RGB", "L"]),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    blocks=st.sampled_from([0, 3]),
    rows=st.tuples(st.integers(0, 149), st.integers(1, 150)),
)
def test_rows_without_restart_markers_have_the_pixels_of_the_whole(
    side: tuple[int, int], mode: str, subsampling: str, blocks: int, rows: tuple[int, int]
) -> None:
    data = jpeg(PICTURE[: side[0], : side[1]], mode, subsampling=subsampling, restart_marker_blocks=blocks)
    check_part(data, side, rows, (0, side[1]))


def check_part(data: bytes, side: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """rows, columns: first and number, maybe beyond the picture."""
    found = JpegParts.of(data)
    assert found is not None
    assert (found.height, found.width) == side
    (top, bottom), (left, right) = (
        (min(first, end - 1), min(end, first + length))
        for (first, length), end in zip((rows, columns), side, strict=True)
    )
    decoded = found.decode(top, left, bottom, right)
    assert decoded is not None
    row, column, part = decoded
    whole = decode_picture(data, "x")
    assert np.array_equal(part[top - row : bottom - row, left - column : right - column], whole[top:bottom, left:right])


def test_no_more_is_decoded_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def decode(data: bytes, strict: bool = True) -> Any:
        shapes.append(Image.open(io.BytesIO(data)).size)
        return decode_plain_jpeg(data, strict)

    monkeypatch.setattr(module, "decode_plain_jpeg", decode)
    found = JpegParts.of(jpeg())
    assert found is not None
    decoded = found.decode(20, 30, 100, 110)
    assert decoded is not None
    assert (decoded[0], decoded[1], decoded[2].shape) == (16, 24, (88, 88, 3))
    assert shapes == [(128, 88)]  # blocks 3 to 13 of 26 in a row lie in four intervals of four
    found = JpegParts.of(jpeg(restart_marker_blocks=0, subsampling="4:2:0"))
    assert found is not None
    decoded = found.decode(20, 30, 100, 110)
    assert decoded is not None
    assert shapes[1:] == [(203, 104)]  # a row of chroma more
    assert decoded[2].shape == (104, 203, 3)


def test_a_progressive_jpeg_is_left_to_the_decoder() -> None:
    assert JpegParts.of(jpeg(progressive=True)) is None


def test_a_turned_or_too_large_picture_is_left_to_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert JpegParts.of(jpeg(exif=exif)) is None
    exif[0x0112] = 1
    assert JpegParts.of(jpeg(exif=exif)) is not None
    assert JpegParts.of(jpeg(xmp=b'<x tiff:Orientation="3"/>')) is None
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


@pytest.mark.parametrize("restart", [0, 4])
@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), to=st.integers(0, 255))
def test_a_damaged_byte_of_the_blocks_has_the_effect_that_it_has_on_the_whole(
    restart: int, place: int, to: int
) -> None:
    good = jpeg(PICTURE[:64, :96], restart_marker_blocks=restart)
    start = good.index(b"\xff\xda") + 14
    place = start + place % (len(good) - 2 - start)
    bad = good[:place] + bytes([to]) + good[place + 1 :]
    crops = RandomCrops(32, scale_probability=0)
    try:
        crop = crops.cut_from(bad, "x", np.random.default_rng(place))
        whole = crops.cut(decode_picture(bad, "x"), np.random.default_rng(place))
    except PictureError:
        return
    assert np.array_equal(crop, whole)


@pytest.mark.parametrize("restart", [0, 4])
def test_a_file_cut_short_is_not_used_though_the_crop_is_there(restart: int) -> None:
    data = jpeg(restart_marker_blocks=restart)
    top = RandomCrops(32, scale_probability=0)
    with pytest.raises(PictureError, match="truncated"):
        top.cut_from(data[:-100], "x", np.random.default_rng(0))


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
    assert not whole
    monkeypatch.setattr(module.JpegParts, "of", lambda data: None)
    assert all(np.array_equal(one, other) for one, other in zip(part, crops(), strict=True))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("window", [16, 24])
def test_a_crop_is_a_copy(mirrored: bool, window: int) -> None:
    picture = PICTURE.copy()
    crop = Crop(top=3, left=5, window=window, size=16, mirrored=mirrored).cut(picture)
    picture[:] = 0
    plain = Image.fromarray(PICTURE[3 : 3 + window, 5 : 5 + window]).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(crop, np.asarray(plain)[:, :: -1 if mirrored else 1])


def test_samples_are_stacked_and_put_in_order() -> None:
    samples = torch.arange(4 * 2 * 3 * 5 * 7).view(4, 2, 3, 5, 7).to(torch.uint8)
    batch = stacked(iter(channels_first(samples.movedim(2, -1).contiguous().numpy())), 4)
    assert torch.equal(batch, samples)
    assert batch.is_contiguous()


def test_a_folder_whose_pictures_fit_into_memory_keeps_them(tmp_path: Path) -> None:
    write_picture(tmp_path / "0.jpg", PICTURE)
    source = FolderCrops(tmp_path, crop_size=64, seed=0)
    crop = source.sample(0)
    (tmp_path / "0.jpg").unlink()
    assert np.array_equal(source.sample(0), crop)
