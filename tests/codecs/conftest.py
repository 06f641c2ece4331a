"""A tiny codec with random weights, scaled so that its symbols are worth coding, and real photographs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from skimage import data

from glc_train.codecs import ImageCodec
from glc_train.weights import build_codec


def scaled_codec(config: dict[str, Any], gain: float) -> ImageCodec:
    """Random weights from a fixed seed; y is multiplied by `gain`, and z has a prior that is not uniform."""
    torch.manual_seed(0)
    codec = build_codec(config).eval().requires_grad_(False)
    codec.transform.analysis.gain.mul_(gain)
    codec.transform.z_counts.copy_(torch.randint(1, 50, codec.transform.z_counts.shape))
    return codec


@pytest.fixture(scope="session")
def tiny_config(repository: Path) -> dict[str, Any]:
    config = OmegaConf.to_container(OmegaConf.load(repository / "conf" / "model" / "tiny.yaml"))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@pytest.fixture(scope="module")
def codec(tiny_config: dict[str, Any]) -> ImageCodec:
    return scaled_codec(tiny_config, 3.0)


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """uint8 (400, 448, 3)."""
    return np.ascontiguousarray(data.astronaut()[:400, :448])
