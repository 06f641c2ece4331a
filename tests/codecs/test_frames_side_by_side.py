"""Several frames at a time: the same files and pictures, bounded memory, errors that end everything, no thread left."""

import io
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from glc_train.codecs import ClipResult, VideoCodec, VideoDecoder, VideoEncoder
from glc_train.codecs.lanes import Lanes
from tests.codecs.video_harness import CLIP, FRAMES, QUALITY, REPEATED

MOST = 9  # frames between source and report: in the lanes, in the entropy coder, and one more in each stage


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    """As on a machine of two cores; afterwards all threads are gone and PyTorch's number of them is as before."""
    before = threading.active_count()
    torch.set_num_threads(2)
    try:
        yield
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert threading.active_count() == before


def encoded(codec: VideoCodec, frames: list[np.ndarray]) -> bytes:
    out = io.BytesIO()
    with VideoEncoder(codec, QUALITY, CLIP, out) as encoder:
        reports = list(encoder.write_all(frames))
    assert [report.index for report in reports] == list(range(len(frames)))
    return out.getvalue()


def test_the_file_and_the_pictures_are_those_of_one_frame_after_the_other(
    video_codec: VideoCodec, frames: list[np.ndarray], coded: ClipResult, decoded: list[np.ndarray]
) -> None:
    assert encoded(video_codec, frames) == coded.data
    decoder = VideoDecoder(video_codec, io.BytesIO(coded.data))
    shown = list(decoder)
    assert decoder.damages == []
    assert [frame.index for frame in shown] == list(range(FRAMES))
    assert all(np.array_equal(frame.picture, picture) for frame, picture in zip(shown, decoded, strict=True))
    assert shown[REPEATED].picture is shown[REPEATED - 1].picture


def test_frames_are_really_coded_side_by_side(
    video_codec: VideoCodec, frames: list[np.ndarray], coded: ClipResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: set[str] = set()
    for part in (VideoCodec, type(video_codec.image)):
        for method in ("encode_latent", "decode_latent"):
            monkeypatch.setattr(part, method, noting(names, getattr(part, method)))
    encoded(video_codec, frames)
    assert {name.split("_")[0] for name in names} == {"frame"}
    names.clear()
    list(VideoDecoder(video_codec, io.BytesIO(coded.data)))
    assert {name.split("_")[0] for name in names} == {"MainThread", "frame"}  # the first picture is decoded alone


def noting(names: set[str], original: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        names.add(threading.current_thread().name)
        return original(*arguments)

    return noted


def test_memory_does_not_grow_with_the_clip(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    taken, most, length = itertools.count(), 0, 60

    def source() -> Iterator[np.ndarray]:
        for _ in range(length):
            yield frames[next(taken) % 5]

    out = io.BytesIO()
    with VideoEncoder(video_codec, QUALITY, CLIP, out) as encoder:
        for report in encoder.write_all(source()):
            ahead = encoder._taken - report.index
            most = max(most, ahead)
    assert 1 < most <= MOST
    decoder, most = VideoDecoder(video_codec, io.BytesIO(out.getvalue())), 0
    for _ in decoder:
        most = max(most, len(decoder._waiting))
    assert most <= MOST


@pytest.mark.parametrize("stage", ["source", "size", "_latent", "_code", "_write"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_error_in_any_stage_ends_the_encoder(
    video_codec: VideoCodec,
    frames: list[np.ndarray],
    coded: ClipResult,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    kind: type[BaseException],
) -> None:
    """The file ends with a frame before the error, has none after it, and has no end record."""

    def source() -> Iterator[np.ndarray]:
        yield from frames[:3]
        if stage == "source":
            raise kind("no more")
        yield frames[3][:-1] if stage == "size" else frames[3]
        yield from frames[4:]

    if stage.startswith("_"):
        monkeypatch.setattr(VideoEncoder, stage, fails_at(getattr(VideoEncoder, stage), 4, kind))
    out = io.BytesIO()
    reports = []
    with pytest.raises(ValueError if stage == "size" else kind, match="frame 3 is" if stage == "size" else "no more"):  # noqa: PT012, SIM117
        with VideoEncoder(video_codec, QUALITY, CLIP, out) as encoder:
            for report in encoder.write_all(source()):
                reports.append(report.index)
    assert reports == list(range(len(reports)))
    assert len(reports) <= 3
    assert coded.data.startswith(out.getvalue())
    decoder = VideoDecoder(video_codec, io.BytesIO(out.getvalue()))
    shown = list(decoder)
    assert [frame.index for frame in shown[: len(reports)]] == reports
    assert [(damage.first, damage.end) for damage in decoder.damages] == [(len(shown), None)]


def fails_at(original: Callable[..., Any], call: int, kind: type[BaseException]) -> Callable[..., Any]:
    calls = itertools.count(1)

    def counted(*arguments: Any) -> Any:
        if next(calls) == call:
            raise kind("no more")
        return original(*arguments)

    return counted


@pytest.mark.parametrize("stage", ["_picture", "_next_latent"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_in_any_stage_ends_the_decoder(
    video_codec: VideoCodec, coded: ClipResult, monkeypatch: pytest.MonkeyPatch, stage: str, kind: type[BaseException]
) -> None:
    monkeypatch.setattr(VideoDecoder, stage, fails_at(getattr(VideoDecoder, stage), 4, kind))
    shown: list[int] = []
    with pytest.raises(kind, match="no more"):
        shown.extend(frame.index for frame in VideoDecoder(video_codec, io.BytesIO(coded.data)))
    assert shown == list(range(len(shown)))
    assert len(shown) <= 4


def test_an_iteration_goes_on_where_another_was_left(
    video_codec: VideoCodec, coded: ClipResult, decoded: list[np.ndarray]
) -> None:
    decoder, found = VideoDecoder(video_codec, io.BytesIO(coded.data)), []
    for count in (1, 2, 4, FRAMES):
        found += list(itertools.islice(decoder, count))
    assert [frame.index for frame in found] == list(range(FRAMES))
    assert all(np.array_equal(frame.picture, picture) for frame, picture in zip(found, decoded, strict=True))
    decoder.seek(3)
    assert [frame.index for frame in decoder] == list(range(3, FRAMES))


def test_frames_in_the_autoencoder_at_a_time_follow_cores_and_pixels() -> None:
    cpu = torch.device("cpu")
    assert Lanes(cpu, 1280 * 720).count == 2
    assert Lanes(cpu, 3840 * 2160).count == 0  # one frame after the other, each on all cores
    torch.set_num_threads(16)
    with Lanes(cpu, 416 * 240) as lanes, Lanes(cpu, 416 * 240):
        assert lanes.count == 3
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 16
    assert Lanes(cpu, 1920 * 1080).count == 2
    torch.set_num_threads(1)
    assert Lanes(cpu, 416 * 240).count == 0
    torch.set_num_threads(2)
