"""Effort for clips: intra and conditional frames nearer at no more bytes, in files that any decoder reads."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.measures import model_config
from glc_train.bitstream import ClipFormat
from glc_train.codecs import GOP, VideoCodec, VideoEncoder, compress_clip, decompress_clip
from glc_train.effort import STEPS, PerceptualMixture, Refiner
from glc_train.weights import build_video

PICTURE = data.astronaut()
CLIP = ClipFormat(width=70, height=50)
QUALITY = 30
FRAMES = [np.ascontiguousarray(PICTURE[40 + t : 90 + t, 180 + t : 250 + t]) for t in range(3)]


@pytest.fixture(scope="module")
def codec() -> VideoCodec:
    """Random weights; symbols of some bits, and decoders that show them."""
    image = model_config()
    image["transform"]["quality_levels"] = 64
    torch.manual_seed(0)
    config = {"image": image, "transform": model_config("video/tiny"), "own_autoencoder": True}
    codec = build_video(config).eval().requires_grad_(False)
    codec.image.transform.analysis.gain.mul_(3.0)
    codec.transform.analysis.gain.mul_(6.0)
    codec.image.transform.rdoq = (0.05,) * codec.quality_levels
    return codec


@pytest.fixture(autouse=True)
def _unchanged(codec: VideoCodec) -> Any:
    yield
    codec.refiner = None


def refiner(effort: int = 4, **options: Any) -> Refiner:
    return Refiner(effort, PerceptualMixture({"mse": 1.0}), **options)


def errors(codec: VideoCodec, file: bytes) -> list[float]:
    shown = decompress_clip(codec, file)
    return [
        float(np.square(picture.astype(float) - frame).mean()) for picture, frame in zip(shown, FRAMES, strict=True)
    ]


def test_every_frame_comes_nearer_at_no_more_bytes(codec: VideoCodec) -> None:
    plain = compress_clip(codec, FRAMES, QUALITY, CLIP)
    codec.refiner = refiner()
    out = io.BytesIO()
    with VideoEncoder(codec, QUALITY, CLIP, out, reconstruct=True) as encoder:
        refined = list(encoder.write_all(FRAMES))
    assert [frame.kind for frame in refined] == ["intra", *["conditional"] * 2]
    assert all(
        mine < other for mine, other in zip(errors(codec, out.getvalue()), errors(codec, plain.data), strict=True)
    )
    assert len(out.getvalue()) <= 1.02 * len(plain.data)
    # The chain goes on from the refined symbols: what the encoder has is what a decoder shows.
    for shown, frame in zip(decompress_clip(codec, out.getvalue()), refined, strict=True):
        assert frame.picture is not None
        assert np.array_equal(shown, frame.picture)


def test_windows_refine_frames_too(codec: VideoCodec) -> None:
    plain = compress_clip(codec, FRAMES, QUALITY, CLIP).data
    codec.refiner = refiner(3, side=64)
    refined = compress_clip(codec, FRAMES, QUALITY, CLIP).data
    assert sum(errors(codec, refined)) < sum(errors(codec, plain))
    assert len(refined) <= 1.06 * len(plain)  # at the edges the context is another


def test_the_time_is_that_of_the_whole_clip(codec: VideoCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], []

    def progress(done: int, steps: int) -> None:
        told.append((done, steps))
        now[0] += 1.0

    monkeypatch.setattr("glc_train.effort.refiner.time.monotonic", lambda: now[0])
    steps = STEPS[4]
    codec.refiner = refiner(seconds=steps + 2, progress=progress)
    compress_clip(codec, FRAMES, QUALITY, CLIP)
    assert told == [(k + 1, steps) for k in range(steps)] + [(1, steps), (2, steps)]


def test_an_interruption_ends_the_effort_for_the_frames_left(codec: VideoCodec) -> None:
    told = []

    def interrupt(done: int, steps: int) -> None:
        told.append(done)
        if len(told) == 9:
            raise KeyboardInterrupt

    plain = compress_clip(codec, FRAMES, QUALITY, CLIP).data
    codec.refiner = refiner(progress=interrupt)
    file = compress_clip(codec, FRAMES, QUALITY, CLIP).data
    assert len(told) == 9
    assert errors(codec, file)[0] < errors(codec, plain)[0]


def test_repeated_frames_and_cuts_are_as_without(codec: VideoCodec) -> None:
    clip = [FRAMES[0], FRAMES[0], np.ascontiguousarray(FRAMES[0][::-1, ::-1])]
    codec.refiner = refiner(1)
    out = io.BytesIO()
    with VideoEncoder(codec, QUALITY, CLIP, out, GOP(None)) as encoder:
        kinds = [frame.kind for frame in encoder.write_all(clip)]
    assert kinds == ["intra", "repeat", "intra"]
    assert len(decompress_clip(codec, out.getvalue())) == 3
