"""Streams of the video codec: exact round trips, sizes, seeking, pipes."""

import io
import os
import threading
from typing import Any

import numpy as np
import pytest
import torch

from glc_train.codecs import (
    GOP,
    ClipResult,
    DecodedFrame,
    ImageCodec,
    VideoCodec,
    VideoDecoder,
    VideoEncoder,
    compress_clip,
    decompress_clip,
)
from glc_train.codecs.scene_cuts import SceneCuts
from glc_train.transform import IndexTransform, VideoTransform
from tests.codecs.video_harness import (
    CLIP,
    CLIP_COST,
    FRAME_COST,
    FRAMES,
    INTRA_COST,
    QUALITY,
    REPEATED,
    VIDEO,
    build,
    read,
    same,
)

# ------------------------------------------------------------------ round trips


def test_the_encoder_knows_what_the_decoder_shows(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    out, written, reports = io.BytesIO(), [], []
    with VideoEncoder(video_codec, QUALITY, CLIP, out, reconstruct=True) as encoder:
        for frame in frames:
            reports.append(encoder.write(frame))
            written.append(encoder._chain.previous().latent_hat)
    out.seek(0)
    decoder = VideoDecoder(video_codec, out)
    assert (decoder.header.fps, decoder.header.matrix, decoder.header.full_range) == ((30000, 1001), "bt709", False)
    shown = []
    for report, latent, out_frame in zip(reports, written, decoder, strict=True):
        assert torch.equal(decoder._chain.previous().latent_hat, latent)
        assert report.picture is not None
        assert np.array_equal(out_frame.picture, report.picture)
        assert (out_frame.index, out_frame.kind, out_frame.size) == (report.index, report.kind, report.size)
        shown.append(out_frame.picture)
    assert decoder.damages == []
    assert encoder.size == len(out.getvalue())
    kinds = ["intra" if t % 5 == 0 else "repeat" if t == REPEATED else "conditional" for t in range(FRAMES)]
    assert [report.kind for report in reports] == kinds
    assert all(frame.shape == (40, 50, 3) and frame.dtype == np.uint8 for frame in shown)
    assert np.array_equal(shown[REPEATED], shown[REPEATED - 1])
    assert not np.array_equal(shown[2], shown[1])


def test_decoded_frames_are_those_that_forward_promises(
    video_codec: VideoCodec, frames: list[np.ndarray], decoded: list[np.ndarray]
) -> None:
    clip = torch.from_numpy(np.stack(frames[:4])).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        outputs = video_codec(clip, QUALITY)
    for out, picture in zip(outputs, decoded, strict=False):
        promised = ((out.x_hat[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).numpy()
        assert np.abs(promised - picture).mean() < 4  # but for symbols on a rounding edge


def test_other_threads_decode_the_same_latents(video_codec: VideoCodec, coded: ClipResult) -> None:
    latents: list[list[torch.Tensor]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            decoder = VideoDecoder(video_codec, io.BytesIO(coded.data))
            latents.append([])
            while decoder._next_latent() is not None:
                latents[-1].append(decoder._chain.previous().latent_hat)
        finally:
            torch.set_num_threads(1)
        assert decoder.damages == []
    assert all(torch.equal(one, two) for one, two in zip(*latents, strict=True))


@pytest.mark.parametrize(
    "gop", [GOP(None), GOP(1), GOP(4, (1, 2), 1), GOP(3, (2,), 2)], ids=["one intra", "all intra", "reset", "pattern"]
)
def test_groups_of_pictures_come_back(video_codec: VideoCodec, frames: list[np.ndarray], gop: GOP) -> None:
    out = io.BytesIO()
    with VideoEncoder(video_codec, 3, CLIP, out, gop, reconstruct=True) as encoder:
        pictures = [encoder.write(frame).picture for frame in frames[4:10]]
    assert encoder.header.pattern == gop.pattern
    assert np.array_equal(decompress_clip(video_codec, out.getvalue()), np.array(pictures))


def test_clips_of_one_frame_and_of_none(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    one = compress_clip(video_codec, frames[:1], 0, CLIP)
    assert len(decompress_clip(video_codec, one.data)) == 1
    assert len(one.data) <= one.frames[0].ideal_bits / 8 + INTRA_COST + CLIP_COST
    none = compress_clip(video_codec, [], 0, CLIP)
    assert decompress_clip(video_codec, none.data) == []
    assert len(none.data) <= CLIP_COST


def test_an_intra_codec_of_indices_alone(codec: ImageCodec, frames: list[np.ndarray]) -> None:
    image = ImageCodec(codec.autoencoder, None).eval()
    assert isinstance(image.transform, IndexTransform)
    video = VideoCodec(image, VideoTransform(**(VIDEO | {"quality_levels": 1}))).eval().requires_grad_(False)
    out = io.BytesIO()
    with VideoEncoder(video, 0, CLIP, out, reconstruct=True) as encoder:
        pictures = [encoder.write(frame).picture for frame in frames[:3]]
    assert np.array_equal(decompress_clip(video, out.getvalue()), np.array(pictures))


# ------------------------------------------------------------------ scene cuts


def cut_clip(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Another scene, which moves too, begins at frame 3."""
    other = [np.ascontiguousarray(frame[::-1, :, ::-1]) for frame in frames]
    return [*frames[:3], *other[3:7], other[6], other[8]]


def test_a_scene_begins_with_an_intra_frame(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    clip, out = cut_clip(frames), io.BytesIO()
    with VideoEncoder(video_codec, 3, CLIP, out, GOP(5, (0, 1, 2), 3), reconstruct=True) as encoder:
        reports = list(encoder.write_all(clip))
    kinds = [report.kind for report in reports]
    assert kinds == ["intra", "conditional", "conditional", "intra", *["conditional"] * 3, "repeat", "intra"]
    pictures = [report.picture for report in reports if report.picture is not None]
    for start in range(9):
        found, damages = read(video_codec, out.getvalue(), start)
        assert list(found) == list(range(start, 9))
        assert same(found, pictures)
        assert damages == []


def test_groups_begin_anew_at_a_cut(
    video_codec: VideoCodec, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    decoder = video_codec.frame_coder().decoder
    original = decoder.context_of

    def context_of(previous: torch.Tensor, adaptor: int | None) -> Any:
        asked.append(adaptor)
        return original(previous, adaptor)

    monkeypatch.setattr(decoder, "context_of", context_of)
    monkeypatch.setattr(video_codec, "gop", GOP(None, (0, 1, 2), 3))
    compress_clip(video_codec, cut_clip(frames), 3, CLIP)
    assert asked == [None, 2, None, 2, 0]  # at places 1 and 2; 1, 2 and 3


def test_without_cuts_the_period_alone_counts(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    out = io.BytesIO()
    with VideoEncoder(video_codec, 3, CLIP, out, GOP(scene_cuts=False)) as encoder:
        reports = [encoder.write(frame) for frame in cut_clip(frames)]
    assert [report.index for report in reports if report.kind == "intra"] == [0]
    assert not VideoDecoder(video_codec, io.BytesIO(out.getvalue())).header.scene_cuts


def test_what_is_a_cut(photograph: np.ndarray) -> None:
    def cuts(*pictures: np.ndarray) -> list[bool]:
        found = SceneCuts()
        return [found.begins(np.ascontiguousarray(picture)) for picture in pictures]

    black, rng = np.zeros_like(photograph[:200, :200]), np.random.default_rng(0)
    noise = [rng.integers(0, 3, black.shape).astype(np.uint8) for _ in range(3)]
    assert cuts(*(photograph[6 * t : 200 + 6 * t, 9 * t : 200 + 9 * t] for t in range(20))) == [False] * 20
    assert cuts(*noise, *noise) == [False] * 6
    assert cuts(black, black, photograph[:200, :200], photograph[200:, 200:400], black) == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert cuts(black[:1, :1], black[:1, :1] + 255) == [False, True]


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize("gain", [1.0, 4.0, 12.0])
def test_what_a_clip_costs(codec: ImageCodec, frames: list[np.ndarray], gain: float) -> None:
    result = compress_clip(build(codec, gain), frames[:7], QUALITY, CLIP)
    limits = {"intra": INTRA_COST, "conditional": FRAME_COST, "repeat": 2}
    for frame in result.frames:
        assert 0 <= frame.size - frame.ideal_bits / 8 <= limits[frame.kind], frame
        if frame.kind != "repeat":
            assert frame.ideal_bits == pytest.approx(frame.estimated_bits, rel=0.1, abs=24)
    assert sum(frame.size for frame in result.frames) + CLIP_COST >= len(result.data)
    assert len({frame.ideal_bits for frame in result.frames}) == 7


def test_an_unchanged_clip_costs_two_bytes_a_frame(
    video_codec: VideoCodec, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_codec, "gop", GOP(intra_period=96))
    one, many = (compress_clip(video_codec, frames[:1] * n, 0, CLIP) for n in (1, 96))
    assert len(many.data) == len(one.data) + 2 * 95
    assert [frame.kind for frame in many.frames] == ["intra"] + ["repeat"] * 95
    pictures = decompress_clip(video_codec, many.data)
    assert len(pictures) == 96
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_after_a_pause_the_chain_goes_on_or_starts_anew(
    video_codec: VideoCodec, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reset interval 3: frames 1 and 4 start chains, also where they only repeat the frame before."""
    asked: list[int | None] = []
    coder = video_codec.frame_coder()
    original = coder.decoder.context_of

    def context_of(previous: torch.Tensor, adaptor: int | None) -> Any:
        asked.append(adaptor)
        return original(previous, adaptor)

    still = [frames[0], frames[1], frames[2], frames[3], frames[3], frames[4], frames[5]]
    monkeypatch.setattr(video_codec, "gop", GOP(96, (0, 1), 3))
    coder.decoder.context_of = context_of  # type: ignore[method-assign]
    try:
        data = compress_clip(video_codec, still, 0, CLIP).data
        written, asked[:] = list(asked), []
        decompress_clip(video_codec, data)
    finally:
        del coder.decoder.context_of
    assert written == [None, 0, 1, None, 0]
    assert asked == written


def test_an_empty_frame_costs_two_bytes(codec: ImageCodec, frames: list[np.ndarray]) -> None:
    """All symbols zero where the model expects just that, and one code for the tokens to choose from."""
    video = build(codec, codes=1)
    for parameter in video.transform.analysis.parameters():
        parameter.zero_()
    decoder = video.transform.decoder
    for blocks in (decoder.fusion, decoder.spatial_context):
        for parameter in blocks.parameters():
            parameter.zero_()
    result = compress_clip(video, frames[:4], 0, CLIP)
    assert [(frame.kind, frame.size) for frame in result.frames[1:]] == [("conditional", 2)] * 3
    assert len(decompress_clip(video, result.data)) == 4


# ------------------------------------------------------------------ seeking and pipes


def test_decoding_begins_anywhere(video_codec: VideoCodec, coded: ClipResult, decoded: list[np.ndarray]) -> None:
    for start in (0, 3, 5, REPEATED, 10):
        found, damages = read(video_codec, coded.data, start)
        assert list(found) == list(range(start, FRAMES))
        assert same(found, decoded)
        assert damages == []
    assert read(video_codec, coded.data, FRAMES) == ({}, [])


def test_only_wanted_pictures_are_decoded(video_codec: VideoCodec, coded: ClipResult) -> None:
    made: list[int] = []
    hook = video_codec.autoencoder.decoder.register_forward_hook(lambda *_: made.append(1))
    try:
        decoder = VideoDecoder(video_codec, io.BytesIO(coded.data))
        decoder.seek(9)
        first = next(iter(decoder))
    finally:
        hook.remove()
    assert first.index == 9
    assert len(made) == 1


def test_a_decoder_can_be_sought_again(video_codec: VideoCodec, coded: ClipResult, decoded: list[np.ndarray]) -> None:
    decoder = VideoDecoder(video_codec, io.BytesIO(coded.data))
    for start in (8, 2, 10):
        decoder.seek(start)
        frame = next(iter(decoder))
        assert frame.index == start
        assert np.array_equal(frame.picture, decoded[start])


def test_a_pipe_carries_frame_after_frame(
    video_codec: VideoCodec, frames: list[np.ndarray], decoded: list[np.ndarray]
) -> None:
    """Every frame can be shown before the next one is written."""
    reading, writing = os.pipe()
    shown = threading.Semaphore(1)
    waited: list[bool] = []

    def produce() -> None:
        with os.fdopen(writing, "wb") as out, VideoEncoder(video_codec, QUALITY, CLIP, out) as encoder:
            for frame in frames[:7]:
                waited.append(shown.acquire(timeout=60))
                encoder.write(frame)

    thread = threading.Thread(target=produce)
    thread.start()
    received: list[DecodedFrame] = []
    with os.fdopen(reading, "rb") as source:
        decoder = VideoDecoder(video_codec, source)
        for frame in decoder:
            received.append(frame)
            shown.release()
    thread.join()
    assert waited == [True] * 7
    assert decoder.damages == []
    assert [frame.index for frame in received] == list(range(7))
    assert same({frame.index: frame.picture for frame in received}, decoded)


def test_an_encoder_that_stops_leaves_frames_that_can_be_decoded(
    video_codec: VideoCodec, frames: list[np.ndarray], decoded: list[np.ndarray]
) -> None:
    out = io.BytesIO()

    def broken() -> None:
        with VideoEncoder(video_codec, QUALITY, CLIP, out) as encoder:
            encoder.write(frames[0])
            encoder.write(frames[1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    found, damages = read(video_codec, out.getvalue())
    assert list(found) == [0, 1]
    assert same(found, decoded)
    assert [(damage.first, damage.end) for damage in damages] == [(2, None)]
