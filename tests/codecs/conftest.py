"""Tiny codecs with random weights, scaled so that their symbols are worth coding, and real photographs."""

from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.measures import model_config
from glc_train.codecs import ClipResult, ImageCodec, VideoCodec, compress_clip, decompress_clip
from glc_train.weights import build_codec
from tests.codecs.video_harness import CLIP, FRAMES, QUALITY, REPEATED, build


def scaled_codec(config: dict[str, Any], gain: float) -> ImageCodec:
    """Random weights from a fixed seed; y is multiplied by `gain`, and z has a prior that is not uniform."""
    torch.manual_seed(0)
    codec = build_codec(config).eval().requires_grad_(False)
    codec.transform.analysis.gain.mul_(gain)
    codec.transform.z_counts.copy_(torch.randint(1, 50, codec.transform.z_counts.shape))
    return codec


@pytest.fixture(scope="session")
def tiny_config() -> dict[str, Any]:
    return model_config()


@pytest.fixture(scope="module")
def codec(tiny_config: dict[str, Any]) -> ImageCodec:
    return scaled_codec(tiny_config, 3.0)


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """uint8 (400, 448, 3)."""
    return np.ascontiguousarray(data.astronaut()[:400, :448])


@pytest.fixture(scope="module")
def video_codec(codec: ImageCodec) -> VideoCodec:
    return build(codec)


@pytest.fixture(scope="module")
def frames(photograph: np.ndarray) -> list[np.ndarray]:
    moving = [photograph[100 + 2 * t : 140 + 2 * t, 80 + 3 * t : 130 + 3 * t] for t in range(FRAMES)]
    moving[REPEATED] = moving[REPEATED - 1]
    return moving


@pytest.fixture(scope="module")
def coded(video_codec: VideoCodec, frames: list[np.ndarray]) -> ClipResult:
    return compress_clip(video_codec, frames, QUALITY, CLIP)


@pytest.fixture(scope="module")
def decoded(video_codec: VideoCodec, coded: ClipResult) -> list[np.ndarray]:
    return decompress_clip(video_codec, coded.data)
