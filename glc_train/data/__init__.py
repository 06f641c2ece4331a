"""Pictures in, tensors out: sources of training crops and the LightningDataModule."""

from glc_train.data.folder import FolderCrops
from glc_train.data.module import CropBatches, PictureDataModule, ValPicture
from glc_train.data.packaged import PackagedCrops, packaged_pictures
from glc_train.data.panel import draw_panel, write_panel
from glc_train.data.pictures import PictureError, find_pictures, read_picture, write_picture
from glc_train.data.rendered import RenderedCrops, render_picture
from glc_train.data.source import CropSource, MixedCrops, to_signed

__all__ = [
    "CropBatches",
    "CropSource",
    "FolderCrops",
    "MixedCrops",
    "PackagedCrops",
    "PictureDataModule",
    "PictureError",
    "RenderedCrops",
    "ValPicture",
    "draw_panel",
    "find_pictures",
    "packaged_pictures",
    "read_picture",
    "render_picture",
    "to_signed",
    "write_panel",
    "write_picture",
]
