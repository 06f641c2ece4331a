"""Damaged, forged and foreign streams: what is left is right, and what is lost is said."""

import copy
import io
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glc_train.bitstream import ClipFormat, FormatError, VideoReader, VideoWriter, WeightsMismatchError
from glc_train.bitstream.video_container import pack_conditional, pack_intra, pack_video_header
from glc_train.codecs import (
    GOP,
    ClipResult,
    ImageCodec,
    VideoCodec,
    VideoDecoder,
    VideoEncoder,
    compress_clip,
    decompress_clip,
)
from tests.codecs.video_harness import (
    CLIP,
    FRAMES,
    QUALITY,
    REPEATED,
    build,
    offsets,
    read,
    same,
)


def test_truncations(video_codec: VideoCodec, coded: ClipResult, decoded: list[np.ndarray]) -> None:
    """At every byte in the tests of the container; here at edges of records."""
    places = offsets(coded.data)
    for frame in (0, 1, 5, REPEATED, FRAMES):
        for length in (places[frame], places[frame] + 3):
            found, damages = read(video_codec, coded.data[:length])
            assert same(found, decoded)
            assert list(found) == list(range(frame + (frame == REPEATED and length > places[frame])))
            assert damages[-1].end is None
            assert "cut short" in str(damages[-1]) or "damaged" in str(damages[-1])


def test_flipped_bits(video_codec: VideoCodec, coded: ClipResult, decoded: list[np.ndarray]) -> None:
    """Every one in the tests of the container; here some, by chance and in lengths, checks and markers."""
    places, rng = offsets(coded.data), np.random.default_rng(0)
    bits = {8 * places[frame] + bit for frame in (2, 5, REPEATED) for bit in (0, 7, 12)}
    bits |= {int(bit) for bit in rng.integers(8 * places[0], 8 * len(coded.data), 12)}
    for bit in sorted(bits):
        damaged = bytearray(coded.data)
        damaged[bit // 8] ^= 1 << bit % 8
        found, damages = read(video_codec, bytes(damaged))
        assert damages, bit
        hit = sum(place <= bit // 8 for place in places) - 1  # the frame whose record was hit
        for index, picture in found.items():
            if index < hit or index >= 5 * (hit // 5 + 1):
                assert np.array_equal(picture, decoded[index]), (bit, index)
        assert {index // 5 for index in range(FRAMES) if index not in found} <= {min(hit, FRAMES - 1) // 5}


def test_a_damaged_frame_is_left_out_with_those_that_need_it(
    video_codec: VideoCodec, coded: ClipResult, decoded: list[np.ndarray]
) -> None:
    damaged = bytearray(coded.data)
    damaged[offsets(coded.data)[6] + 9] ^= 4
    found, damages = read(video_codec, bytes(damaged))
    assert list(found) == [0, 1, 2, 3, 4, 5, 10]
    assert same(found, decoded)
    assert [(damage.first, damage.end) for damage in damages] == [(6, 10)]
    assert str(damages[0]).startswith("frames 6 to 9: the record is damaged")
    with pytest.raises(FormatError, match="frames 6 to 9"):
        decompress_clip(video_codec, bytes(damaged))


@pytest.mark.parametrize("lie", [{"width": 51}, {"height": 39}, {"quality": 41}])
def test_a_header_that_lies_under_a_right_checksum(
    video_codec: VideoCodec, coded: ClipResult, lie: dict[str, Any]
) -> None:
    header = VideoReader(io.BytesIO(coded.data)).header
    start = len(pack_video_header(header))
    _, damages = read(video_codec, pack_video_header(replace(header, **lie)) + coded.data[start:])
    assert {damage.first // 5 for damage in damages} == {0, 1, 2}  # every group


def test_random_payloads_under_right_checks(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    """A forger's stream: nothing but damage reports and pictures comes of it."""
    rng = np.random.default_rng(3)
    header = VideoEncoder(video_codec, 0, CLIP, io.BytesIO()).header
    for _ in range(6):
        out = io.BytesIO()
        writer = VideoWriter(out, header)
        writer.intra(rng.bytes(30), 0)
        for _ in range(3):
            writer.conditional(rng.bytes(20), int(rng.integers(65536)))
        writer.close(0)
        found, damages = read(video_codec, out.getvalue())
        assert damages
        assert set(found) <= {0, 1, 2, 3}


def test_a_decoder_that_computes_differently_is_found_out(codec: ImageCodec, coded: ClipResult) -> None:
    other = build(codec)
    coder = other.frame_coder()
    coder.decoder.get_buffer("temporal_prior.bias").add_(0.01)
    found, damages = read(other, coded.data)
    assert other.fingerprint == VideoReader(io.BytesIO(coded.data)).header.fingerprint
    assert {0, 5, 10} <= set(found)  # intra frames do not need that layer
    assert {damage.first // 5 for damage in damages} == {0, 1}


def test_a_huge_claim_is_refused_before_any_work(video_codec: VideoCodec) -> None:
    claim = ClipFormat(width=65536, height=65536)
    for length in (0, 1, 1000):
        out = io.BytesIO()
        VideoEncoder(video_codec, 0, claim, out)
        out.write(pack_intra(0, b"\x55" * length, 0) + pack_conditional(b"\x55" * length, 0))
        start = time.perf_counter()
        with pytest.raises(FormatError, match="has 65536x65536 pixels, above the limit of 89,478,485"):
            VideoDecoder(video_codec, io.BytesIO(out.getvalue()))
        decoder = VideoDecoder(video_codec, io.BytesIO(out.getvalue()), max_pixels=None)
        assert list(decoder) == []
        assert [(damage.first, damage.end) for damage in decoder.damages] == [(0, None)]
        assert time.perf_counter() - start < 5


def test_there_is_no_frame_before_the_first(video_codec: VideoCodec, coded: ClipResult) -> None:
    decoder = VideoDecoder(video_codec, io.BytesIO(coded.data))
    with pytest.raises(ValueError, match="there is no frame -1"):
        decoder.seek(-1)
    assert next(iter(decoder)).index == 0


def test_pixels_that_are_no_numbers_are_an_error(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    broken = copy.deepcopy(video_codec)
    for autoencoder in (broken.autoencoder, broken.image.autoencoder):
        autoencoder.decoder.last_layer.requires_grad_(False).fill_(3e38)
    data = compress_clip(broken, frames[:2], QUALITY, CLIP).data
    with pytest.raises(ValueError, match="pixels that are no numbers"):
        decompress_clip(broken, data)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    crumbs=st.lists(
        st.binary(max_size=30)
        | st.sampled_from([b"\xf1\x00", b"\xff\x56", b"\xfe\x56"])
        | st.builds(pack_intra, st.integers(0, 9), st.binary(max_size=30), st.integers(0, 0xFFFF))
        | st.builds(pack_conditional, st.binary(max_size=30), st.integers(0, 0xFFFF)),
        max_size=4,
    )
)
def test_any_records_behind_a_good_header_decode_to_frames_or_damage(
    video_codec: VideoCodec, coded: ClipResult, crumbs: list[bytes]
) -> None:
    start = coded.data[: VideoReader(io.BytesIO(coded.data)).header_size]
    decoder = VideoDecoder(video_codec, io.BytesIO(start + b"".join(crumbs)))
    assert len(list(decoder)) <= sum(map(len, crumbs))
    assert decoder.damages


def test_other_weights_are_refused(codec: ImageCodec, video_codec: VideoCodec, coded: ClipResult) -> None:
    for change in (
        "image.autoencoder.decoder",
        "own_autoencoder.decoder",
        "transform.decoder",
        "image.transform.decoder",
    ):
        other = copy.deepcopy(video_codec)
        next(other.get_submodule(change).parameters()).add_(0.1)
        assert other.fingerprint != video_codec.fingerprint
        with pytest.raises(WeightsMismatchError, match=r"clip\.glcv was written with weights of fingerprint"):
            VideoDecoder(other, io.BytesIO(coded.data), "clip.glcv")


def test_adaptors_and_qualities_that_the_weights_do_not_have(
    codec: ImageCodec, video_codec: VideoCodec, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_codec, "gop", GOP(5, (0, 2)))
    data = compress_clip(video_codec, frames[:1], 63, CLIP).data
    monkeypatch.setattr(VideoCodec, "fingerprint", video_codec.fingerprint)
    fewer = build(codec, gop=GOP(5, (0, 1)), quality_levels=4, adaptors=2)
    with pytest.raises(FormatError, match="quality 63, but the loaded weights know only 0 to 3"):
        VideoDecoder(fewer, io.BytesIO(data))
    data = compress_clip(video_codec, frames[:1], 3, CLIP).data
    with pytest.raises(FormatError, match="adaptor 2, but the loaded weights know only 0 to 1"):
        VideoDecoder(fewer, io.BytesIO(data))


def test_frames_that_do_not_fit(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    encoder = VideoEncoder(video_codec, 0, CLIP, io.BytesIO())
    encoder.write(frames[0])
    for wrong in (frames[1][:39], frames[1][:, :, :2], frames[1][None]):
        with pytest.raises(ValueError, match="frames must not change size"):
            encoder.write(wrong)
    assert encoder.write(frames[1]).index == 1
    for quality in (-1, 64):
        with pytest.raises(ValueError, match="quality must be 0 to 63"):
            VideoEncoder(video_codec, quality, CLIP, io.BytesIO())
