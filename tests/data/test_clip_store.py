"""Any frames of a clip, of a file or in memory, are those of reading it whole, and no more is decoded than needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glc_train.data.clip_held import held_clip
from glc_train.data.clip_store import ClipStore
from glc_train.media import open_clip
from glc_train.media.clips import VIDEO_SUFFIXES
from glc_train.media.video_file import VideoFile
from tests.media.clip_files import encode, noise

LENGTH = 30
EVERY_EIGHT = {"x264-params": "keyint=8:min-keyint=8:scenecut=0"}  # key frames 0, 8, 16, 24


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"g": "8", "bf": "3"}),
        ("open_gop.mp4", "libx264", {"x264-params": "keyint=8:open-gop=1:bframes=3:scenecut=0"}),
        ("a.mkv", "libx264", {"g": "8"}),
        ("a.webm", "libvpx-vp9", {"g": "8"}),
        ("a.avi", "mpeg4", {"g": "8"}),
        ("a.ts", "libx264", {"g": "8"}),
        ("all_intra.mkv", "ffv1", {}),
        ("a.y4m", "rawvideo", {}),
        ("no_times.h264", "libx264", {"g": "8"}),
    ],
)
@pytest.mark.parametrize("cache_mb", [0, 10])
def test_any_frames_of_any_file(tmp_path: Path, name: str, codec: str, options: dict[str, str], cache_mb: int) -> None:
    path = encode(tmp_path / name, noise(LENGTH, 32, 48), codec, options=options)
    with open_clip(path) as reader:
        whole = list(reader)
    store = ClipStore(None, cache_mb)
    assert store.length(path) == len(whole) == LENGTH
    for wanted in (range(13, 18), range(0, 3), range(27, 30), range(1, 29, 9), range(7, 9), range(30)):
        got = store.frames(path, wanted)
        np.testing.assert_array_equal(np.stack(got), np.stack([whole[k] for k in wanted]), err_msg=str(wanted))
        if path.suffix in VIDEO_SUFFIXES:
            with held_clip({path.suffix[1:]: path.read_bytes()}, None) as held:
                assert held.length(held.name) == LENGTH
                np.testing.assert_array_equal(np.stack(held.frames(held.name, wanted)), np.stack(got))


def test_no_more_is_decoded_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counted(self: VideoFile, *given: Any, **options: Any) -> Iterator[Any]:
        for frame in frames(self, *given, **options):
            decoded.append(1)
            yield frame

    path = encode(tmp_path / "a.mp4", noise(LENGTH, 32, 48), options=EVERY_EIGHT)
    store = ClipStore(None, cache_mb=0)
    store.length(path)
    frames = VideoFile.frames
    monkeypatch.setattr(VideoFile, "frames", counted)
    store.frames(path, range(18, 20))
    assert len(decoded) <= 6  # from key frame 16 on, and what the decoder had finished beyond
    decoded.clear()
    store.frames(path, range(22, 23))
    assert len(decoded) <= 5  # of the six frames before it, three or more are not referred to
    decoded.clear()
    with held_clip({"mp4": path.read_bytes()}, None) as held:
        held.frames(held.name, range(18, 20))
    assert len(decoded) <= 6
    ample = ClipStore(None, cache_mb=1)
    ample.frames(path, range(18, 20))
    decoded.clear()
    ample.frames(path, range(16, 24))
    assert not decoded


def test_the_cache_keeps_its_limit(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", noise(LENGTH, 32, 48), options=EVERY_EIGHT)
    store = ClipStore(None, cache_mb=20 * 32 * 48 * 3 / 2**20)
    for first in range(0, LENGTH - 3, 3):
        store.frames(path, range(first, first + 3))
    assert sum(frame.nbytes for kept in store._cache._kept.values() for frame in kept) == 16 * 32 * 48 * 3
