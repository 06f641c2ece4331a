"""VMAF through an FFmpeg that has libvmaf."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glc_train.metrics import VMAF, PictureMetrics, source_of
from glc_train.metrics.vmaf import find_ffmpeg
from tests.metrics.rendered import coarsen, render

needs_libvmaf = pytest.mark.skipif(find_ffmpeg() is None, reason="no FFmpeg with libvmaf is installed")
FRAMES = [np.roll(render(96, 130), 4 * number, axis=1) for number in range(3)]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where there is no FFmpeg but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))
    find_ffmpeg.cache_clear()
    yield tmp_path
    find_ffmpeg.cache_clear()


def scores(decoded: list[np.ndarray]) -> list[float]:
    started = PictureMetrics({"vmaf": VMAF()}).start_clip(*FRAMES[0].shape[:2])
    with started["vmaf"] as clip:
        for pair in zip(FRAMES, decoded, strict=True):
            clip.add(*pair)
        return clip.scores()


@needs_libvmaf
def test_it_is_that_of_the_clips_as_ffmpeg_reads_them(tmp_path: Path) -> None:
    """By its other interface: two files, converted before."""
    ffmpeg, version = find_ffmpeg() or ("", "")
    sides = {"original": FRAMES, "decoded": [coarsen(frame, 24) for frame in FRAMES]}
    for name, frames in sides.items():
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "130x96", "-i", "-"]
        yuv = ["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", f"{name}.y4m"]
        data = np.concatenate(frames).tobytes()
        subprocess.run([ffmpeg, "-loglevel", "error", *raw, *yuv], input=data, cwd=tmp_path, check=True)
    inputs = ["-i", "decoded.y4m", "-i", "original.y4m"]
    command = [ffmpeg, "-hide_banner", *inputs, "-lavfi", "libvmaf", "-f", "null", "-"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    expected = float(said.rpartition("VMAF score: ")[2].split()[0])
    found = scores(sides["decoded"])
    assert len(found) == 3
    assert np.mean(found) == pytest.approx(expected, abs=1e-4)
    assert found[0] < scores(FRAMES)[0]
    source = source_of(VMAF())
    assert (source.package, source.version, source.reason) == ("ffmpeg", version, None)


def test_without_such_an_ffmpeg_the_reason_is_known(nowhere: Path) -> None:
    for script in (None, "echo no filters"):
        if script is not None:
            (nowhere / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
            os.chmod(nowhere / "ffmpeg", 0o755)
            find_ffmpeg.cache_clear()
        assert source_of(VMAF()).reason == "no FFmpeg with libvmaf is installed: pip install imageio-ffmpeg"
        metrics = PictureMetrics({"vmaf": VMAF()})
        assert metrics.start_clip(96, 130) == {}
        assert metrics.measure(FRAMES[0], FRAMES[0]) == {"vmaf": None}


def test_what_ffmpeg_says_is_passed_on(nowhere: Path) -> None:
    script = '#!/bin/sh\ncase "$2" in\n-filters) echo " libvmaf ";;\n-version) echo ffmpeg version 1;;\n'
    (nowhere / "ffmpeg").write_text(script + "*) echo out of luck >&2; exit 3;;\nesac\n")
    os.chmod(nowhere / "ffmpeg", 0o755)
    with pytest.raises(RuntimeError, match=r"^FFmpeg ended with 3 while it computed VMAF: out of luck$"):
        scores(FRAMES)
