"""Reading, writing and finding pictures."""

import os
import struct
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from glc_train.media import PictureError, find_pictures, read_picture, write_picture
from glc_train.media import pictures as module


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


# TIFF 6.0: the sides of the upright picture at which the stored row 0 and the stored column 0 lie
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores of a picture under an orientation."""
    rows, columns = (slice(None, None, -1 if side in ("bottom", "right") else 1) for side in SIDES[orientation])
    turned = upright.transpose(1, 0, 2) if SIDES[orientation][0] in ("left", "right") else upright
    return np.ascontiguousarray(turned[rows, columns])


def exif(orientation: object) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("grey.jpg", {"quality": 95}),
        ("a.png", {}),
        ("a.tif", {}),
        ("packed.tif", {"compression": "tiff_lzw"}),
        ("pages.tif", {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),
        ("a.webp", {"lossless": True}),
        ("a.avif", {"quality": 95, "subsampling": "4:4:4"}),
        ("a.mpo", {"quality": 95, "subsampling": 0}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*several frames or pages")
def test_the_orientation_is_applied_once(tmp_path: Path, name: str, options: dict[str, Any], orientation: int) -> None:
    upright = gradient()
    image = Image.fromarray(stored(upright, orientation))
    if name == "grey.jpg":
        image, upright = image.convert("L"), np.asarray(Image.fromarray(upright).convert("L").convert("RGB"))
    image.save(tmp_path / name, exif=exif(orientation), **options)
    picture = read_picture(tmp_path / name)
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).mean() < (3 if name.endswith(("jpg", "avif", "mpo")) else 0.01)


def test_the_orientation_agrees_with_pillow(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif(orientation))
        with Image.open(tmp_path / "a.png") as image:
            np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.asarray(ImageOps.exif_transpose(image)))


def test_an_orientation_that_does_not_exist_is_upright(tmp_path: Path) -> None:
    for orientation in (0, 9, 60000):
        Image.fromarray(gradient()).save(tmp_path / "odd.png", exif=exif(orientation))
        np.testing.assert_array_equal(read_picture(tmp_path / "odd.png"), gradient())


@pytest.mark.parametrize("broken", [b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12", b"Exif\0\0nonsense", b"Exif\0\0"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_broken_exif_is_a_remark_that_names_the_file(tmp_path: Path, broken: bytes, suffix: str) -> None:
    path = tmp_path / f"phone{suffix}"
    Image.fromarray(gradient()).save(path, exif=broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_picture(path).shape == gradient().shape
    assert all(str(warning.message).startswith(f"{path}: ") for warning in caught)
    assert all("\n" not in str(warning.message) for warning in caught)
    if broken != b"Exif\0\0" and suffix != ".jpg":  # of which Pillow has tried it before, in silence
        assert len(caught) == 1


def write_grey_tiff(path: Path, values: np.ndarray, bits: int, photometric: int, order: str, kind: int = 1) -> None:
    """Write whole numbers (H, W) below 2^bits as an uncompressed TIFF. kind: 1 unsigned, 2 signed."""
    height, width = values.shape
    if bits < 8:
        planes = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
        data = np.packbits(planes.reshape(height, -1), axis=1).tobytes()
    elif bits == 12:  # two samples in three bytes
        first, second = values[:, ::2].astype(int), values[:, 1::2].astype(int)
        data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    else:
        data = values.astype(f"{order}u{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags[339] = kind
    fields = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes(header + data + struct.pack(f"{order}H", len(tags)) + fields + bytes(4))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_grey_tiff_is_the_same_picture_whether_0_is_black_or_white(tmp_path: Path, bits: int, order: str) -> None:
    whitest = 2**bits - 1
    values = np.random.default_rng(0).integers(0, whitest, (6, 16), endpoint=True)
    expected = np.repeat(np.round(255 * values / whitest).astype(int)[..., None], 3, axis=2)
    write_grey_tiff(tmp_path / "black.tif", values, bits, 1, order)
    write_grey_tiff(tmp_path / "white.tif", whitest - values, bits, 0, order)
    for name in ("black.tif", "white.tif"):
        try:
            picture = read_picture(tmp_path / name)
        except PictureError as error:  # what Pillow does not decode is refused, never shown wrong
            assert (name, bits, order) in {("black.tif", 12, ">"), ("white.tif", 12, ">"), ("white.tif", 16, ">")} | {
                ("white.tif", 12, "<")
            }
            assert f"{name}: not a readable picture" in str(error)  # noqa: PT017
        else:
            assert np.abs(picture - expected).max() <= 1


def test_samples_without_a_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((8, 8), np.float32)).save(path)
    with pytest.raises(PictureError, match=r"a\.tif: float or signed samples .* convert"):
        read_picture(path)
    for bits in (8, 16, 32):
        write_grey_tiff(path, np.full((4, 4), 7), bits, 1, "<", kind=2)
        with pytest.raises(PictureError, match=r"a\.tif: float or signed samples .* convert"):
            read_picture(path)
    write_grey_tiff(path, np.full((4, 4), 7), 32, 1, "<")
    with pytest.raises(PictureError, match=r"a\.tif: samples outside 16 bits"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif", ".avif"])
def test_of_several_frames_the_first_is_read_with_a_remark(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving{suffix}"
    frames = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (40, 200, 90)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="several frames") as caught:
        picture = read_picture(path)
    assert [str(w.message) for w in caught] == [f"{path}: several frames or pages; only the first is read."]
    assert np.abs(picture.astype(int) - 40).max() <= 2


def test_of_an_mpo_the_first_picture_is_meant(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (40, 200)]
    frames[0].save(tmp_path / "two.mpo", save_all=True, append_images=frames[1:])
    assert np.abs(read_picture(tmp_path / "two.mpo").astype(int) - 40).max() <= 2


def test_an_opaque_alpha_channel_is_no_loss(tmp_path: Path) -> None:
    for suffix in (".png", ".webp"):
        Image.fromarray(gradient()).convert("RGBA").save(tmp_path / f"a{suffix}", lossless=True)
        np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}"), gradient())


@pytest.mark.parametrize(
    "error", [RuntimeError, SyntaxError, ValueError, struct.error, EOFError, ZeroDivisionError, AttributeError, OSError]
)
@pytest.mark.parametrize("place", ["open", "convert"])
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], place: str
) -> None:
    write_picture(tmp_path / "bad.png", gradient())

    def fail(*_: object, **__: object) -> None:
        raise error("line 1\nline 2")

    monkeypatch.setattr(*{"open": (Image, "open"), "convert": (Image.Image, "convert")}[place], fail)
    with pytest.raises(PictureError, match=r"bad\.png: not a readable picture \(line 1 line 2\); replace or remove"):
        read_picture(tmp_path / "bad.png")


def test_memory_that_does_not_suffice_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    (tmp_path / "vast.png").touch()
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(PictureError, match=r"vast\.png: does not fit into memory"):
        read_picture(tmp_path / "vast.png")


@lru_cache
def intact(folder: Path, suffix: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / f"intact{suffix}", exif=exif(6))
    return (folder / f"intact{suffix}").read_bytes()


@given(
    suffix=st.sampled_from([".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm", ".avif", ".gif", ".mpo"]),
    place=st.floats(0, 1, exclude_max=True),
    values=st.binary(min_size=1, max_size=20),
)
def test_damage_anywhere_gives_a_picture_or_a_picture_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: float, values: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(intact(folder, suffix))
    at = int(place * len(data))
    data[at : at + len(values)] = values
    path = folder / f"damaged{suffix}"
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            assert read_picture(path).shape[2] == 3
        except PictureError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert all(str(warning.message).startswith(str(path)) for warning in caught)


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


@pytest.mark.filterwarnings("ignore:.*bytes.png")  # remarks on metadata and the like
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
    with pytest.raises(PictureError, match=r"not a readable picture \(Is a directory\); replace"):
        read_picture(tmp_path)


def test_a_file_of_no_known_format_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(PictureError, match=r"a\.png: not a readable picture \(of no known format\); replace or remove"):
        read_picture(tmp_path / "a.png")


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.png"
    write_picture(path, gradient())
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_bytes", fail)
    with pytest.raises(PictureError, match=r"kept\.png: cannot be written \(disk full\)"):
        write_picture(path, gradient())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.png"]


def test_write_refuses_what_is_no_picture(tmp_path: Path) -> None:
    no_pictures: list[Any] = [gradient().astype(np.float32), gradient()[..., 0], gradient()[:0]]
    for wrong in no_pictures:
        with pytest.raises(PictureError, match="expected a uint8 array"):
            write_picture(tmp_path / "x.png", wrong)
    with pytest.raises(PictureError, match=r"x\.webp: cannot be written as '\.webp' .* choose another format"):
        write_picture(tmp_path / "x.webp", np.zeros((1, 20000, 3), np.uint8))
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
