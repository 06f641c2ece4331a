"""Pictures and clips as files: found, read and written, as arrays of 8-bit RGB; no PyTorch."""

from glc_train.media.clip_info import ClipError, ClipInfo
from glc_train.media.clip_writer import ClipWriter, write_clip
from glc_train.media.clips import ClipReader, open_clip
from glc_train.media.pictures import PictureError, find_pictures, read_picture, search_pictures, write_picture
from glc_train.media.walk import FoundFiles, Reason, find_files

__all__ = [
    "ClipError",
    "ClipInfo",
    "ClipReader",
    "ClipWriter",
    "FoundFiles",
    "PictureError",
    "Reason",
    "find_files",
    "find_pictures",
    "open_clip",
    "read_picture",
    "search_pictures",
    "write_clip",
    "write_picture",
]
