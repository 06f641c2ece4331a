"""Reading, writing and finding pictures as uint8 RGB arrays (H, W, 3)."""

from __future__ import annotations

import io
import logging
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from glc_train.files import write_bytes
from glc_train.media.walk import FoundFiles, find_files

try:  # 1.7 times as fast as Pillow on JPEG, with the same pixels; everything works without it
    import simplejpeg
except ImportError:  # pragma: no cover
    simplejpeg = None

logger = logging.getLogger(__name__)

Picture = npt.NDArray[np.uint8]
PathLike = str | os.PathLike[str]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
# tags of TIFF and EXIF
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 274, 258, 262, 339
_MIN_IS_WHITE, _UNSIGNED = 0, 1
_UNSAFE = ("EPS", "WMF", "IPTC")  # run by Ghostscript, run by Windows, and what may hold one of the two
# restart markers: crops of a JPEG are decoded without the rest of it (jpeg_part.py); they take 2% of the bytes
_JPEG_OPTIONS = {"quality": 95, "subsampling": 0, "restart_marker_blocks": 8}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": _JPEG_OPTIONS,
    ".jpeg": _JPEG_OPTIONS,
    ".webp": {"lossless": True},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
}


class PictureError(ValueError):
    """A picture, or a folder of pictures, cannot be used; the message names it and says what to do."""


def read_picture(path: PathLike) -> Picture:
    """Decode one picture file to RGB.

    Grey, palette, CMYK and 16-bit pictures are converted; the EXIF orientation is applied; colour profiles are
    ignored. Warnings that name the file say what else is lost: transparency, frames or pages after the first,
    metadata that cannot be read.

    Returns: uint8 (H, W, 3), RGB in [0, 255].
    Raises: PictureError if the file is missing, damaged, too large (over Pillow's pixel limit), of a format that
    may hold a program (EPS, WMF, IPTC) or of samples without a defined range.
    """
    return _read(Path(path), None)


def decode_picture(data: bytes, name: str) -> Picture:
    """Decode the bytes of a picture file, called `name` in messages: see `read_picture`."""
    return _read(name, data)


def write_picture(path: PathLike, picture: Picture) -> None:
    """Write `picture`, uint8 (H, W, 3) RGB, in the format of the suffix.

    PNG, BMP, TIFF, PPM and WebP are lossless; JPEG and AVIF are written at quality 95. The file appears whole or not
    at all; missing folders are made.

    Raises: PictureError for another suffix, an array that is no picture, or a place that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PictureError(f"{path}: cannot write '{suffix}' pictures; use one of {', '.join(SUFFIXES)}.")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise PictureError(f"{path}: expected a uint8 array (H, W, 3), got {picture.dtype} {picture.shape}.")
    # not by Pillow's own writing to files, which takes no notice of a write that a full disk cut short
    encoded = encode_picture(picture, suffix, name=str(path))
    try:
        write_bytes(path, encoded)
    except OSError as error:
        reason = error.strerror or error
        raise PictureError(
            f"{path}: cannot be written ({reason}); check the folder, its rights and the free space."
        ) from error


def encode_picture(picture: Picture, suffix: str, quality: int | None = None, name: str = "A picture") -> bytes:
    """Return the file that `write_picture` would write.

    suffix: one of `SUFFIXES`. quality: 1 to 100, of JPEG and AVIF; None: 95. name: in messages.
    Raises: PictureError if the format cannot hold the picture.
    """
    encoded = io.BytesIO()
    options = _SAVE_OPTIONS.get(suffix, {})
    if quality is not None and "quality" in options:
        options = options | {"quality": quality}
    try:
        image_format = Image.registered_extensions()[suffix]
        Image.fromarray(np.ascontiguousarray(picture)).save(encoded, image_format, **options)
    except Exception as error:  # each encoder has its own ways to refuse, most often the size
        raise PictureError(f"{name}: cannot be written as '{suffix}' ({error}); choose another format.") from error
    return encoded.getvalue()


def search_pictures(root: PathLike, recursive: bool = True) -> FoundFiles:
    """Search the folder `root` for pictures (by suffix); see `find_files`.

    Raises: PictureError if the folder is missing, may not be read or holds no picture.
    """
    root = Path(root)
    try:
        found = find_files(root, SUFFIXES, recursive)
    except PermissionError as error:
        raise PictureError(f"{root}: the folder may not be read; check its rights.") from error
    except OSError as error:
        raise PictureError(f"{root}: no such folder; give a folder of pictures.") from error
    if not found.files:
        raise PictureError(
            f"{root}: no pictures in this folder; looked for {', '.join(SUFFIXES)}."
            + (f" {found.remark}" if found.left_out else "")
        )
    return found


def find_pictures(root: PathLike, recursive: bool = True) -> list[Path]:
    """List the pictures of `search_pictures`; what else there is in the folder is a warning in the log."""
    found = search_pictures(root, recursive)
    if found.left_out:
        logger.warning("%s", found.remark)
    return found.files


def _read(path: Path | str, data: bytes | None) -> Picture:
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        picture = _decode(path, data)
    for text in dict.fromkeys(" ".join(str(remark.message).split()) for remark in remarks):
        warnings.warn(f"{path}: {text}", stacklevel=3)
    return picture


def _decode(path: Path | str, data: bytes | None) -> Picture:
    try:
        with open(path, "rb") if data is None else io.BytesIO(data) as file, Image.open(file) as image:
            if image.format in _UNSAFE:  # under any suffix; so far only the head has been read
                raise PictureError(
                    f"{path}: a file of the format {image.format}, which may hold a program, is not read; convert it "
                    "to PNG first."
                )
            pixels = _decode_jpeg(file, image)
            if pixels is None:
                pixels = _decode_with_pillow(path, image)
            orientation = _orientation(image)  # after decoding, which applies that of a TIFF and then forgets it
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such file; check the path.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS or 0
        remedy = "downscale or tile the picture first, or allow more (glc --max-pixels)"
        raise PictureError(f"{path}: more than {limit:,} pixels; {remedy}.") from error
    except MemoryError as error:
        raise PictureError(f"{path}: does not fit into memory; downscale or tile the picture first.") from error
    except Exception as error:  # Pillow's plug-ins raise whatever they like on damaged files
        known = "of no known format" if isinstance(error, UnidentifiedImageError) else getattr(error, "strerror", None)
        reason = known or " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{path}: not a readable picture ({reason}); replace or remove the file.") from error
    return np.require(_oriented(pixels, orientation), requirements=["C", "W"])


def decode_plain_jpeg(data: bytes, strict: bool = True) -> Picture | None:
    """Decode an RGB or grey JPEG, not turned upright; `None` where Pillow has to do it, or to say what is wrong.

    strict: take defects that the decoder can do with as well for something that Pillow has to judge.
    """
    if simplejpeg is None:
        return None
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=strict), dtype=np.uint8)
    except ValueError:  # strict about harmless defects too: let Pillow judge the file
        return None


def _decode_jpeg(file: BinaryIO, image: Image.Image) -> Picture | None:
    """Fast path: plain RGB or grey JPEG; None where Pillow has to do it."""
    if image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    place = file.tell()
    file.seek(0)
    try:
        return decode_plain_jpeg(file.read())
    finally:
        file.seek(place)


def _decode_with_pillow(path: Path | str, image: Image.Image) -> Picture:
    tags: Any = getattr(image, "tag_v2", {})  # of TIFF
    if image.mode == "F" or tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] != _UNSIGNED:
        raise PictureError(
            f"{path}: float or signed samples have no defined range; convert the picture to 8 or 16 bit first."
        )
    # of an MPO the first picture is the one to show; the others are its preview or another view
    if getattr(image, "is_animated", False) and image.format != "MPO":
        warnings.warn("several frames or pages; only the first is read.", stacklevel=2)
    if image.mode.startswith("I"):
        whitest = 2 ** tags.get(_BITS, (16,))[0] - 1
        # Pillow turns such samples over in up to 8 bits only
        return _from_integers(path, np.asarray(image), whitest, tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
    # by way of RGBA, so that a palette's or grey level's transparent colour keeps its colour
    samples = np.asarray(image.convert("RGBA"), dtype=np.uint8)
    if samples[..., 3].min() < 255:
        warnings.warn("the alpha channel is dropped.", stacklevel=2)
    return samples[..., :3]


def _from_integers(path: Path | str, grey: npt.NDArray[np.generic], whitest: int, turned_over: bool) -> Picture:
    """Scale grey of up to 16 bits to 8, rounding: whitest -> 255 (Pillow's own conversion clips at 255)."""
    values = grey.astype(np.int64)
    if values.min() < 0 or max(int(values.max()), whitest) > 65535:
        raise PictureError(f"{path}: samples outside 16 bits; convert the picture to 8 or 16 bit first.")
    if turned_over:
        values = whitest - values
    eight_bits = ((255 * values + whitest // 2) // whitest).astype(np.uint8)
    return np.repeat(eight_bits[:, :, None], 3, axis=2)


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(_ORIENTATION, 1)
        return orientation
    except Exception as error:  # a viewer shows such a picture as it is stored
        warnings.warn(f"the EXIF data cannot be read ({error}); taken as upright.", stacklevel=2)
        return 1


def _oriented(pixels: Picture, orientation: int) -> Picture:
    """Undo the camera's orientation (EXIF tag 0x0112: 1 upright ... 8 rotated by 270 degrees)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
