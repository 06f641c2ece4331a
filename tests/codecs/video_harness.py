"""A tiny video codec with random weights, and what its tests share."""

import copy
import io
from typing import Any

import numpy as np
import torch

from glc_train.bitstream import ClipFormat, Damage, VideoReader
from glc_train.codecs import (
    GOP,
    ImageCodec,
    VideoCodec,
    VideoDecoder,
)
from glc_train.transform import VideoTransform

VIDEO: dict[str, Any] = {
    "latent_channels": 32, "channels": 8, "token_channels": 8, "tokens": 4, "heads": 2, "codes": 16,
    "quality_levels": 64, "depth": 1, "refine_depth": 1, "context_depth": 2, "condition_channels": 4,
}  # fmt: skip
CLIP = ClipFormat(width=50, height=40, fps=(30000, 1001))
FRAMES = 11
REPEATED = 7
FRAME_COST = 4  # bytes of a conditional frame beyond its ideal code length: length, check, end of the entropy code
INTRA_COST = 14
CLIP_COST = 40  # bytes of header, end record and index of a short clip
QUALITY = 40


def build(codec: ImageCodec, gain: float = 4.0, gop: GOP | None = None, **changed: Any) -> VideoCodec:
    """Random weights whose symbols are worth coding, and a prior of the tokens that is not uniform."""
    torch.manual_seed(4)
    transform = VideoTransform(**(VIDEO | changed))
    own = copy.deepcopy(codec.autoencoder)
    for parameter in own.decoder.parameters():
        parameter.requires_grad_(False).mul_(1.01)
    gop = gop or GOP(intra_period=5, reset_interval=3, scene_cuts=False)  # small frames move by a large part
    video = VideoCodec(codec, transform, own, gop).eval().requires_grad_(False)
    transform.analysis.gain.mul_(gain)
    transform.z_counts.copy_(torch.randint(1, 50, transform.z_counts.shape))
    return video


def read(video: VideoCodec, data: bytes, start: int | None = None) -> tuple[dict[int, np.ndarray], list[Damage]]:
    decoder = VideoDecoder(video, io.BytesIO(data))
    if start is not None:
        decoder.seek(start)
    return {frame.index: frame.picture for frame in decoder}, decoder.damages


def offsets(data: bytes) -> list[int]:
    """Where the record of each frame begins, and the end record."""
    reader = VideoReader(io.BytesIO(data))
    found = [reader.header_size]
    while (record := reader.next_record()).kind != "end":
        found.append(found[-1] + record.size)
    return found


def same(found: dict[int, np.ndarray], decoded: list[np.ndarray]) -> bool:
    return all(np.array_equal(picture, decoded[index]) for index, picture in found.items())
