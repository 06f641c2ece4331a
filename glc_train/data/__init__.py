"""Pictures and clips in, tensors out: sources of training crops, shards and the LightningDataModules."""

from glc_train.data.clip_module import ClipDataModule, ValClip
from glc_train.data.clip_rendered import RenderedClips, render_clip
from glc_train.data.clip_sources import FolderClips, find_clips
from glc_train.data.folder import FolderCrops
from glc_train.data.module import CropBatches, PictureDataModule, StreamDataModule, ValPicture
from glc_train.data.packaged import PackagedCrops, packaged_pictures
from glc_train.data.panel import draw_panel, write_panel
from glc_train.data.rendered import RenderedCrops, render_picture
from glc_train.data.shards.clips import ShardClips
from glc_train.data.shards.errors import ShardError
from glc_train.data.shards.index import ShardIndex
from glc_train.data.shards.pictures import ShardCrops
from glc_train.data.shards.samples import ClipEncoder, PictureEncoder
from glc_train.data.shards.scanning import index_shards
from glc_train.data.shards.writing import WrittenShard, write_shards
from glc_train.data.source import CropSource, MixedCrops
from glc_train.media.clip_info import ClipError, ClipInfo
from glc_train.media.clip_writer import ClipWriter, write_clip
from glc_train.media.clips import ClipReader, open_clip
from glc_train.media.pictures import PictureError, find_pictures, read_picture, search_pictures, write_picture
from glc_train.media.walk import FoundFiles, Reason, find_files

__all__ = [
    "ClipDataModule",
    "ClipEncoder",
    "ClipError",
    "ClipInfo",
    "ClipReader",
    "ClipWriter",
    "CropBatches",
    "CropSource",
    "FolderClips",
    "FolderCrops",
    "FoundFiles",
    "MixedCrops",
    "PackagedCrops",
    "PictureDataModule",
    "PictureEncoder",
    "PictureError",
    "Reason",
    "RenderedClips",
    "RenderedCrops",
    "ShardClips",
    "ShardCrops",
    "ShardError",
    "ShardIndex",
    "StreamDataModule",
    "ValClip",
    "ValPicture",
    "WrittenShard",
    "draw_panel",
    "find_clips",
    "find_files",
    "find_pictures",
    "index_shards",
    "open_clip",
    "packaged_pictures",
    "read_picture",
    "render_clip",
    "render_picture",
    "search_pictures",
    "write_clip",
    "write_panel",
    "write_picture",
    "write_shards",
]
