"""What every codec does, held against its own forward pass and its files."""

import io
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glc_train.bitstream import ClipFormat, FormatError
from glc_train.codecs import Codec, ImageCodec, VideoCodec, spread_qualities
from glc_train.pixels import picture_to_tensor, tensor_to_picture
from glc_train.weights import build_codec


@pytest.fixture(scope="module")
def indices(tiny_config: dict[str, Any]) -> ImageCodec:
    """A codec of codebook indices alone."""
    torch.manual_seed(3)
    return build_codec(tiny_config | {"transform": None}).eval().requires_grad_(False)


@pytest.fixture(params=["codec", "indices", "video_codec"])
def any_codec(request: pytest.FixtureRequest) -> Codec:
    found: Codec = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def clip(frames: list[np.ndarray]) -> torch.Tensor:
    """(2, 3, 3, 40, 50): two clips of three frames."""
    x = torch.cat([picture_to_tensor(frame) for frame in frames[:6]])
    return x.view(2, 3, *x.shape[1:])


def test_clips_and_pictures_come_back_in_their_shape(any_codec: Codec, clip: torch.Tensor) -> None:
    coded = any_codec.reconstruct(clip, 0)
    assert coded.x_hat.shape == clip.shape
    assert coded.bits.shape == clip.shape[:2]
    alone = any_codec.reconstruct(clip[:, 0], 0)
    assert alone.x_hat.shape == clip[:, 0].shape
    torch.testing.assert_close(alone.x_hat, coded.x_hat[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.bits, coded.bits[:, 0])


def test_each_sample_has_its_quality(codec: ImageCodec, video_codec: VideoCodec, clip: torch.Tensor) -> None:
    for each in (codec, video_codec):
        top = each.quality_levels - 1
        mixed = each.reconstruct(clip, torch.tensor([0, top]))
        torch.testing.assert_close(mixed.bits[1], each.reconstruct(clip[1:], top).bits[0])
        torch.testing.assert_close(mixed.bits[0], each.reconstruct(clip[:1], 0).bits[0])
    with pytest.raises(ValueError, match="quality must be 0 to"):
        codec.reconstruct(clip, codec.quality_levels)


def test_the_latent_has_the_size_and_channels_that_are_said(any_codec: Codec) -> None:
    height, width = any_codec.multiple * 2, any_codec.multiple
    latent = any_codec.encode_latent(torch.zeros(1, 3, height, width))
    assert tuple(latent.shape[1:]) == (any_codec.latent_channels, *any_codec.latent_size(height, width))
    assert any_codec.latent_size(height - 1, 1) == any_codec.latent_size(height, width)
    assert any_codec.decode_latent(latent).shape == (1, 3, height, width)


def test_files_hold_what_reconstruct_estimates(any_codec: Codec, frames: list[np.ndarray]) -> None:
    frames = frames[:3] if any_codec.suffix == ".glcv" else frames[:1]
    x = torch.cat([picture_to_tensor(frame) for frame in frames])[None]
    estimate, out = any_codec.reconstruct(x, 0), io.BytesIO()
    size = ClipFormat(width=frames[0].shape[1], height=frames[0].shape[0])
    with any_codec.encoder(0, size, out, reconstruct=True) as encoder:
        reports = [encoder.write(frame) for frame in frames]
    assert encoder.size == len(out.getvalue())
    assert [report.kind for report in reports] == ["intra", "conditional", "conditional"][: len(frames)]
    for report, bits in zip(reports, estimate.bits[0], strict=True):
        assert report.estimated_bits == pytest.approx(float(bits), rel=0.05, abs=8)
    decoder = any_codec.decoder(io.BytesIO(out.getvalue()), "photo")
    decoded = list(decoder)
    assert (decoder.frames, decoder.size, list(decoder.damages)) == (len(frames), encoder.size, [])
    for report, frame, x_hat in zip(reports, decoded, estimate.x_hat[0], strict=True):
        assert report.picture is not None
        assert np.array_equal(report.picture, frame.picture)
        difference = tensor_to_picture(x_hat[None]).astype(int) - frame.picture
        assert np.abs(difference).mean() < 1.5  # symbols on a rounding edge differ


def test_a_picture_file_takes_one_picture_of_its_size(codec: ImageCodec, frames: list[np.ndarray]) -> None:
    size = ClipFormat(width=frames[0].shape[1], height=frames[0].shape[0])
    with codec.encoder(0, size, io.BytesIO()) as encoder:
        encoder.write(frames[0])
        with pytest.raises(ValueError, match="one picture"):
            encoder.write(frames[1])
    with codec.encoder(0, size, io.BytesIO()) as encoder, pytest.raises(ValueError, match="as was said"):
        encoder.write(frames[0][:-1])
    with pytest.raises(FormatError, match=r"^here\.glc "):
        codec.decoder(io.BytesIO(b"\x00" * 20), "here.glc")


def test_damage_is_named_after_the_file(codec: ImageCodec, frames: list[np.ndarray]) -> None:
    data = codec.compress(frames[0], 0)
    with pytest.raises(FormatError, match=r"^here\.glc "):
        list(codec.decoder(io.BytesIO(data[:-1]), "here.glc"))


def test_arithmetic_is_set_on_every_codec(any_codec: Codec, clip: torch.Tensor) -> None:
    exact = any_codec.decode_latent(latent := any_codec.encode_latent(clip[:1, 0, :, :32, :32]))
    any_codec.compute_dtype = torch.bfloat16
    try:
        assert any_codec.compute_dtype == torch.bfloat16
        assert not torch.equal(any_codec.decode_latent(latent), exact)
    finally:
        any_codec.compute_dtype = torch.float32


def test_hyper_indices_are_those_of_coding(codec: ImageCodec, video_codec: VideoCodec, clip: torch.Tensor) -> None:
    out = codec(clip.flatten(0, 1), 2)
    assert torch.equal(codec.hyper_indices(clip, 2), out.z_indices.flatten())
    coded = [frame.z_indices.flatten() for frame in video_codec(clip, 2)[1:]]
    assert torch.equal(video_codec.hyper_indices(clip, 2), torch.cat(coded))
    assert not len(video_codec.hyper_indices(clip[:, 0], 2))


@given(levels=st.integers(1, 64), count=st.integers(1, 8))
def test_spread_qualities_reach_from_end_to_end(levels: int, count: int) -> None:
    found = spread_qualities(levels, count)
    assert found == sorted(set(found))
    assert len(found) <= count
    assert found[0] == 0
    assert found[-1] == (levels - 1 if count > 1 else 0)


def test_the_encoders_half_stands_once(
    any_codec: Codec, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, files and the prior's fit go through `transform.encode`: without it none of them works."""

    def refuse(*_: object) -> None:
        raise RuntimeError("encode was called")

    monkeypatch.setattr(type(any_codec.transform), "encode", refuse)
    frames = frames[:2]
    x = torch.cat([picture_to_tensor(frame) for frame in frames])[None]
    with pytest.raises(RuntimeError, match="encode was called"):
        any_codec.reconstruct(x, 0)
    with pytest.raises(RuntimeError, match="encode was called"):
        any_codec.hyper_indices(x, 0)
    size = ClipFormat(width=frames[0].shape[1], height=frames[0].shape[0])
    with any_codec.encoder(0, size, io.BytesIO()) as encoder, pytest.raises(RuntimeError, match="encode was called"):
        deque(map(encoder.write, frames))
