"""The files that `benchmarks.data` reads: JPEGs and clips in folders and in shards, and an index of 10^7 samples."""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glc_train.data import ClipEncoder, PictureEncoder, ShardIndex, packaged_pictures, render_clip, write_shards
from glc_train.data.shards.index import ShardRecord, write_index
from glc_train.files import write_bytes
from glc_train.media import ClipInfo, read_picture, write_clip
from glc_train.media.pictures import Picture

SHORT_SIDE, QUALITY = 512, 95  # of the JPEGs
CLIP_SIZE, CLIP_FRAMES = (256, 448), 32  # the rows and columns of Vimeo-90k, a segment of `glc data shard --clips`
SHARDS = 4


@dataclass(frozen=True)
class Files:
    """Folders of the same samples: single files, shards of these, and shards of pictures encoded anew."""

    folder: Path
    shards: Path
    encoded: Path


def make_pictures(place: Path, count: int) -> Files:
    """JPEGs of 512 pixels at the shorter side, cut from the packaged photographs and written as other programs do."""
    photographs = [read_picture(path) for split in ("train", "test") for path in packaged_pictures(split)]
    random = np.random.default_rng(0)
    files = Files(place / "pictures", place / "picture_shards", place / "encoded_shards")
    files.folder.mkdir()
    for number in range(count):
        file = io.BytesIO()
        _variant(photographs[number % len(photographs)], random).save(file, "JPEG", quality=QUALITY)
        write_bytes(files.folder / f"{number:05}.jpg", file.getvalue())
    for shards, encoder in (
        (files.shards, PictureEncoder()),
        (files.encoded, PictureEncoder(SHORT_SIDE, "jpeg", QUALITY)),
    ):
        write_shards(files.folder, shards, encoder, samples=-(-count // SHARDS))
    return files


def _variant(photograph: Picture, random: np.random.Generator) -> Image.Image:
    """At least nine tenths of each side of the photograph, brought to the size of the JPEGs."""
    height, width = photograph.shape[:2]
    top, left = (int(random.uniform(0, side / 10)) for side in (height, width))
    part = photograph[top:, left:][:, :: random.choice((-1, 1))]
    scale = SHORT_SIDE / min(part.shape[:2])
    size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
    return Image.fromarray(part).resize(size, Image.Resampling.BICUBIC)


def make_clips(place: Path, count: int) -> Files:
    """Rendered clips as H.264, as `glc data shard --clips` writes them; the same in every run."""
    files = Files(place / "clips", place / "clip_shards", place / "clip_shards")
    files.folder.mkdir()
    height, width = CLIP_SIZE
    info = ClipInfo(width, height, Fraction(25), "bt709", False, None)
    for number in range(count):
        with write_clip(files.folder / f"{number:05}.mp4", info, threads=1) as clip:
            for frame in render_clip(height, width, CLIP_FRAMES, seed=number):
                clip.write(frame)
    write_shards(files.folder, files.shards, ClipEncoder(segment=CLIP_FRAMES), samples=-(-count // SHARDS))
    return files


def make_large_index(place: Path, shards: Path, count: int, samples: int) -> Path:
    """An index of `count` shards of `samples` samples each, all of which lie in one real shard."""
    index = ShardIndex(f"{shards}/index.safetensors")
    members = [index.members(number)[1][0] for number in range(int(index.counts[0]))]
    chosen = [members[k % len(members)] for k in range(samples)]
    columns: Any = {key: [getattr(member, key) for member in chosen] for key in ("offset", "size", "crc32")}
    files: dict[str, Any] = {
        "offset": np.array(columns["offset"], np.int64),
        "size": np.array(columns["size"], np.uint32),
        "crc32": np.array(columns["crc32"], np.uint32),
        "suffix": np.zeros(samples, np.uint16),
    }
    record = ShardRecord(
        index.urls[0], index.sizes[0], index.sha256[0], [members[0].suffix], files, np.arange(samples, dtype=np.int64)
    )
    path = place / "large.safetensors"
    write_index(path, [record] * count)
    return path
