"""Reading, writing and finding pictures."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from glc_train.data import PictureError, find_pictures, read_picture, write_picture
from glc_train.data import pictures as module


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 10, x * 6, (x + y) * 3], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm", ".webp"])
def test_lossless_formats_return_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    write_picture(path, gradient())
    np.testing.assert_array_equal(read_picture(path), gradient())
    assert read_picture(path).flags.writeable
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".avif"])
def test_lossy_formats_stay_close(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    write_picture(path, gradient())
    assert np.abs(read_picture(path).astype(int) - gradient()).mean() < 3


def test_the_fast_jpeg_decoder_gives_pillows_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simplejpeg = pytest.importorskip("simplejpeg")
    assert module.simplejpeg is simplejpeg
    for mode in ("RGB", "L"):
        path = tmp_path / f"{mode}.jpg"
        Image.fromarray(gradient(37, 51)).convert(mode).save(path, quality=80)  # 4:2:0, odd sides
        fast = read_picture(path)
        with monkeypatch.context() as patch:
            patch.setattr(module, "simplejpeg", None)
            np.testing.assert_array_equal(fast, read_picture(path))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    image = Image.fromarray(gradient()).convert(mode)
    image.save(path)
    picture = read_picture(path)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 257], [32768, 65279, 65535, 1000]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"grey{suffix}")
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_picture(tmp_path / f"grey{suffix}"), np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_dropped_with_a_warning_that_names_the_file(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "seethrough.png"
    grey = gradient()[:, :, 1]
    if mode == "RGBA":
        Image.fromarray(np.dstack([gradient(), grey])).save(path)
        expected = gradient()
    else:
        image = Image.fromarray(grey)
        expected = np.repeat(grey[..., None], 3, axis=2)
        if mode == "LA":
            image.putalpha(Image.fromarray(grey[:, ::-1]))
            image.save(path)
        else:  # a palette with one transparent entry
            image.convert("P").save(path, transparency=6)
    with pytest.warns(UserWarning, match=r"seethrough\.png: the alpha channel is dropped"):
        np.testing.assert_array_equal(read_picture(path), expected)


def test_a_picture_without_alpha_gives_no_warning(tmp_path: Path) -> None:
    write_picture(tmp_path / "plain.png", gradient())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_picture(tmp_path / "plain.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_picture(path), expected)
    assert read_picture(path).shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))


def test_float_samples_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(PictureError, match=r"float\.tif: float samples .* convert"):
        read_picture(tmp_path / "float.tif")


def test_samples_outside_16_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 70000, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(PictureError, match=r"deep\.tif: samples outside 16 bits"):
        read_picture(tmp_path / "deep.tif")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "vast.png", gradient(100, 100))
    for limit in (9000, 1000):  # Pillow warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(PictureError, match=r"vast\.png: more than .* downscale or tile"):
            read_picture(tmp_path / "vast.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm", ".avif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_picture(path, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match=rf"cut\{suffix}: not a readable picture .* replace or remove"):
        read_picture(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own
@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"BM"])
)
def test_any_bytes_give_a_picture_or_a_picture_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.png"
    path.write_bytes(start + data)
    try:
        assert read_picture(path).shape[2] == 3
    except PictureError as error:
        assert "bytes.png" in str(error)  # noqa: PT017


def test_missing_file_and_folder_are_told_apart_from_damage(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"gone\.png: no such file"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(PictureError, match="not a readable picture"):
        read_picture(tmp_path)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.png"
    write_picture(path, gradient())
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(PictureError, match=r"kept\.png: cannot be written \(disk full\)"):
        write_picture(path, gradient())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.png"]


def test_write_refuses_what_is_no_picture(tmp_path: Path) -> None:
    no_pictures: list[Any] = [gradient().astype(np.float32), gradient()[..., 0], gradient()[:0]]
    for wrong in no_pictures:
        with pytest.raises(PictureError, match="expected a uint8 array"):
            write_picture(tmp_path / "x.png", wrong)
    with pytest.raises(PictureError, match=r"cannot write '\.gif' pictures"):
        write_picture(tmp_path / "x.gif", gradient())
    (tmp_path / "file").touch()
    with pytest.raises(PictureError, match="cannot be written"):
        write_picture(tmp_path / "file" / "x.png", gradient())
    assert os.listdir(tmp_path) == ["file"]


def test_find_pictures_is_sorted_and_recursive(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("c.PNG", "a.jpg", "b/x.webp", "b/.hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert find_pictures(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b/x.webp", tmp_path / "c.PNG"]
    assert find_pictures(tmp_path, recursive=False) == [tmp_path / "a.jpg", tmp_path / "c.PNG"]


def test_find_pictures_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no pictures in this folder"):
        find_pictures(tmp_path)
    with pytest.raises(PictureError, match="gone: no such folder"):
        find_pictures(tmp_path / "gone")
