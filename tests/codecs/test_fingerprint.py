"""A file carries the fingerprint of the weights and settings it was written with, however these came about."""

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.bitstream import VideoReader, WeightsMismatchError, unpack_image
from glc_train.codecs import ImageCodec, VideoCodec, compress_clip
from glc_train.transform import VideoTransform
from tests.codecs.video_harness import CLIP, VIDEO


def fused_step(parameter: Tensor) -> None:
    """One step of a fused optimiser."""
    parameter.requires_grad_(True)
    parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW([parameter], lr=0.1, fused=True).step()
    parameter.requires_grad_(False)


def through_data(parameter: Tensor) -> None:
    """A write that autograd does not see."""
    parameter.data.mul_(1.5)


def signs(parameter: Tensor) -> None:
    """A change that leaves every magnitude."""
    parameter.data.neg_()


def numpy_view(parameter: Tensor) -> None:
    """A write that PyTorch does not see."""
    parameter.numpy()[:] *= 1.5


CHANGES = [fused_step, through_data, signs, numpy_view]
PARTS = [
    "autoencoder.decoder.post_quant_conv.weight",
    "transform.decoder.synthesis.gain",
    "transform.z_quantiser.embedding.weight",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", PARTS)
def test_a_file_never_carries_an_old_fingerprint(
    codec: ImageCodec, photograph: np.ndarray, part: str, change: Callable[[Tensor], None]
) -> None:
    codec, picture = copy.deepcopy(codec), photograph[:40, :50]
    before = codec.compress(picture, 1)
    change(codec.get_parameter(part))
    after = codec.compress(picture, 1)
    fresh = copy.deepcopy(codec)
    fresh._exact = type(codec._exact)()  # as if these weights had been saved and loaded
    assert unpack_image(after)[0].fingerprint == fresh.fingerprint != unpack_image(before)[0].fingerprint
    assert np.array_equal(fresh.decompress(after), codec.decompress(after))
    with pytest.raises(WeightsMismatchError):
        codec.decompress(before)


def test_a_clip_never_carries_an_old_fingerprint(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    codec = copy.deepcopy(video_codec)
    before = compress_clip(codec, frames[:2], 0, CLIP).data
    for name in ("transform.decoder.synthesis.gain", "own_autoencoder.decoder.post_quant_conv.weight"):
        codec.get_parameter(name).data.mul_(1.5)
        after = compress_clip(codec, frames[:2], 0, CLIP).data
        found = [VideoReader(io.BytesIO(data)).header.fingerprint for data in (before, after)]
        assert found[0] != found[1] == codec.fingerprint
        before = after


def test_an_exact_coder_is_made_once(codec: ImageCodec, video_codec: VideoCodec) -> None:
    assert codec.picture_coder() is codec.picture_coder()
    assert video_codec.frame_coder() is video_codec.frame_coder()


def test_a_file_takes_one_checksum_of_the_weights(
    codec: ImageCodec, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, taken = ImageCodec.weights_checksum, []

    def counted(codec: ImageCodec) -> int:
        taken.append(codec)
        return original(codec)

    monkeypatch.setattr(ImageCodec, "weights_checksum", counted)
    data = codec.compress(photograph[:40, :50], 1)
    assert len(taken) == 1
    codec.decompress(data)
    assert len(taken) == 2


def test_another_transform_with_the_same_decoder_is_used(codec: ImageCodec, photograph: np.ndarray) -> None:
    other, picture = copy.deepcopy(codec), photograph[:40, :50]
    before = other.compress(picture, 1)
    other.transform = copy.deepcopy(codec.transform)
    other.transform.analysis.gain.mul_(3.0)
    assert other.fingerprint == codec.fingerprint
    assert other.compress(picture, 1) != before


def settings_of(config: dict[str, Any], **changed: Any) -> int:
    """Fingerprint of a codec with always the same weights."""
    section = {k: v for k, v in config["autoencoder"].items() if k != "_target_"} | changed
    torch.manual_seed(0)
    return ImageCodec(VQVAE(**section), None).fingerprint


def test_settings_that_change_pixels_are_in_the_fingerprint(tiny_config: dict[str, Any]) -> None:
    sizes = {"widths": [32, 64, 64]}
    grouped = {settings_of(tiny_config, **sizes, groups=groups) for groups in (None, 4, 8, 16, 32)}
    windows = {settings_of(tiny_config, window=window) for window in (None, 4, 16, 32)}
    scalars = {settings_of(tiny_config, fsq_levels=levels, codes=240) for levels in ([8, 6, 5], [5, 6, 8], [6, 5, 8])}
    assert (len(grouped), len(windows), len(scalars)) == (5, 4, 3)


def test_settings_that_change_symbols_are_in_the_fingerprint(codec: ImageCodec) -> None:
    found = set()
    for tokens, heads in ((4, 2), (8, 1), (2, 4)):  # the same tensors, read in other ways
        torch.manual_seed(0)
        found.add(VideoCodec(codec, VideoTransform(**(VIDEO | {"tokens": tokens, "heads": heads}))).fingerprint)
    assert len(found) == 3
