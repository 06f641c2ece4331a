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

__all__ = [
    "ClipDataModule",
    "ClipEncoder",
    "CropBatches",
    "CropSource",
    "FolderClips",
    "FolderCrops",
    "MixedCrops",
    "PackagedCrops",
    "PictureDataModule",
    "PictureEncoder",
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
    "index_shards",
    "packaged_pictures",
    "render_clip",
    "render_picture",
    "write_panel",
    "write_shards",
]
