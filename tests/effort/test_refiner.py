"""Effort: less distortion at no more bytes, at any size, interrupted or not; files that any decoder reads."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from torch import Tensor

from benchmarks.measures import model_config
from glc_train.codecs import CompressResult, ImageCodec, compress_within
from glc_train.effort import STEPS, PerceptualMixture, Refiner
from glc_train.effort.refiner import _default_distortion
from glc_train.effort.target import windows
from glc_train.weights import build_codec

PICTURE = np.ascontiguousarray(data.astronaut()[30:150, 150:290])  # no multiple of anything
QUALITY = 1


@pytest.fixture(scope="module")
def codec() -> ImageCodec:
    """Random weights; symbols of some bits, and a decoder that shows them."""
    config = model_config()
    torch.manual_seed(0)
    codec = build_codec(config).eval().requires_grad_(False)
    codec.transform.analysis.gain.mul_(3.0)
    codec.transform.rdoq = (0.05,) * codec.quality_levels
    return codec


def refiner(effort: int = 4, **options: Any) -> Refiner:
    return Refiner(effort, PerceptualMixture({"mse": 1.0}), **options)


def error(codec: ImageCodec, file: bytes) -> float:
    return float(np.square(codec.decompress(file).astype(float) - PICTURE).mean())


def test_more_effort_brings_the_picture_nearer_at_no_more_bytes(codec: ImageCodec) -> None:
    plain = codec.compress(PICTURE, QUALITY)
    files = [codec.compress(PICTURE, QUALITY, refiner(effort)) for effort in (2, 5)]
    assert all(len(file) <= 1.01 * len(plain) for file in files)
    errors = [error(codec, file) for file in (plain, *files)]
    assert errors[2] < errors[1] < errors[0]
    assert codec.compress(PICTURE, QUALITY, 0) == plain


def test_a_number_stands_for_the_effort_against_the_default_mixture(codec: ImageCodec) -> None:
    _default_distortion.cache_clear()
    picture = PICTURE[:64, :64].copy()
    plain, file = codec.compress(picture, QUALITY), codec.compress(picture, QUALITY, 1)
    assert file != plain
    assert len(file) <= 1.05 * len(plain)


def test_growth_is_how_many_bytes_there_may_be(codec: ImageCodec) -> None:
    plain, report = (codec.compress(PICTURE, QUALITY), codec.compress_with_report(PICTURE, QUALITY))
    less = codec.compress_with_report(PICTURE, QUALITY, refiner(growth=0.8))
    assert less.estimated_bits_y <= 0.801 * report.estimated_bits_y
    assert len(less.data) < len(plain)


def test_windows_together_refine_the_whole_picture(codec: ImageCodec) -> None:
    plain = codec.compress(PICTURE, QUALITY)
    file = codec.compress(PICTURE, QUALITY, refiner(3, side=64))
    assert error(codec, file) < error(codec, plain)
    assert len(file) <= 1.05 * len(plain)  # at the edges the context is another


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), side=st.integers(1, 12), overlap=st.integers(0, 3))
def test_windows_cover_every_place_once(size: tuple[int, int], side: int, overlap: int) -> None:
    height, width = 4 * size[0], 4 * size[1]
    count = np.zeros((height, width), int)
    for window in windows(height, width, 4 * side, 4 * overlap, 4):
        count[window.inner] += 1
        for inner, outer in zip(window.inner, window.outer, strict=True):
            assert outer.start <= inner.start < inner.stop <= outer.stop
            assert outer.start % 4 == 0
    assert (count == 1).all()


def test_progress_is_told_and_time_is_kept(codec: ImageCodec) -> None:
    told: list[tuple[int, int]] = []
    codec.compress(PICTURE, QUALITY, refiner(4, progress=lambda done, steps: told.append((done, steps))))
    assert told == [(k + 1, STEPS[4]) for k in range(STEPS[4])]
    told.clear()
    plain = codec.compress(PICTURE, QUALITY)
    nothing = codec.compress(PICTURE, QUALITY, refiner(seconds=0.0, progress=lambda *each: told.append(each)))
    assert not told
    assert abs(error(codec, nothing) / error(codec, plain) - 1) < 0.01
    assert abs(len(nothing) - len(plain)) <= 2


def test_an_interruption_keeps_the_best_so_far(codec: ImageCodec) -> None:
    def interrupt(done: int, steps: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    plain = codec.compress(PICTURE, QUALITY)
    file = codec.compress(PICTURE, QUALITY, refiner(9, progress=interrupt))
    assert error(codec, file) < error(codec, plain)


def test_the_refiner_of_a_codec_is_for_all_its_files(codec: ImageCodec) -> None:
    wanted = codec.compress(PICTURE, QUALITY, refiner())
    codec.refiner = refiner()
    try:
        assert codec.compress(PICTURE, QUALITY) == wanted  # the same each time
        assert codec.compress(PICTURE, QUALITY, 0) != wanted
    finally:
        codec.refiner = None


def test_a_distortion_of_ones_own(codec: ImageCodec) -> None:
    def green(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {"green": (x_hat[:, 1] - x[:, 1]).square().mean()}

    def green_error(file: bytes) -> float:
        return float(np.square(codec.decompress(file)[..., 1].astype(float) - PICTURE[..., 1]).mean())

    assert green_error(codec.compress(PICTURE, QUALITY, Refiner(5, green))) < green_error(
        codec.compress(PICTURE, QUALITY)
    )


def test_what_cannot_be_is_refused(codec: ImageCodec) -> None:
    with pytest.raises(ValueError, match="effort must be 0 to 9"):
        codec.compress(PICTURE, QUALITY, 10)
    for weights in ({"blur": 1.0}, {"mse": -1.0}, {"mse": 0.0}):
        with pytest.raises(ValueError, match="weights of a mixture"):
            PerceptualMixture(weights)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graphics_card_refines_for_every_decoder(codec: ImageCodec) -> None:
    plain = codec.compress(PICTURE, QUALITY)
    file = copy.deepcopy(codec).to("cuda").compress(PICTURE, QUALITY, refiner())
    assert error(codec, file) < error(codec, plain)
    assert len(file) <= 1.01 * len(plain)


def test_a_refined_file_that_is_too_large_by_a_few_bytes_is_made_anew(
    codec: ImageCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, growths, compress = codec.compress(PICTURE, QUALITY), [], codec.compress_with_report

    def larger_at_first(picture: np.ndarray, quality: int, effort: Any = None) -> CompressResult:
        made = compress(picture, quality, effort)
        if effort == 0:
            return made
        growths.append(effort.growth)
        return made if len(growths) > 1 else replace(made, data=made.data + bytes(30 + len(plain) - len(made.data)))

    def never_better(picture: np.ndarray, quality: int, effort: Any = None) -> CompressResult:
        if effort == 0 or quality < QUALITY:
            growths.extend([effort.growth] if effort else [])
            return compress(picture, quality, effort)
        growths.append(effort.growth)
        return compress(picture, quality, 0)

    monkeypatch.setattr(codec, "compress_with_report", larger_at_first)
    quality, made = compress_within(codec, PICTURE, len(plain) + 10, refiner(2))
    assert quality == QUALITY
    assert len(made.data) <= len(plain) + 10
    assert error(codec, made.data) < error(codec, plain)
    assert growths[1] < growths[0]

    growths.clear()
    monkeypatch.setattr(codec, "compress_with_report", never_better)
    quality, made = compress_within(codec, PICTURE, len(plain) + 10, refiner(2))
    assert quality == QUALITY - 1  # the next smaller one, with more room to grow
    assert made.data != codec.compress(PICTURE, QUALITY - 1)
    assert len(growths) == 3
    assert growths[2] > growths[1]

    growths.clear()
    assert compress_within(codec, PICTURE, len(plain) + 10, refiner(2, seconds=1e-9))[1].data == plain
    assert len(growths) == 1  # the time was over
