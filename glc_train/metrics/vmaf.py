"""VMAF of clips, through an FFmpeg that was built with libvmaf."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import numpy as np

from glc_train.metrics.facts import MetricSource

_NONE = "no FFmpeg with libvmaf is installed: pip install imageio-ffmpeg"
_TO_YUV = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"


class VMAF:
    """VMAF with its model v0.6.1, on 8-bit BT.709 YUV 4:2:0: from 0 to 100 for each frame of a clip."""

    def metric_source(self) -> MetricSource:
        """FFmpeg and its version, or why there is no figure."""
        found = find_ffmpeg()
        version, reason = (None, _NONE) if found is None else (found[1], None)
        return MetricSource(f"{__name__}.VMAF", None if found is None else "ffmpeg", version, reason=reason)

    def start(self, height: int, width: int) -> VMAFOfClip | None:
        """What measures one clip; None where no FFmpeg can."""
        found = find_ffmpeg()
        return None if found is None else VMAFOfClip(found[0], height, width)


class VMAFOfClip:
    """VMAF of one clip, a context manager: `add` each frame, then `scores`.

    FFmpeg gets each original with the decoded frame below it, so that one pipe is enough.
    """

    def __init__(self, ffmpeg: str, height: int, width: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="glc_vmaf_")
        self._errors = open(self._path("errors"), "w+b")  # noqa: SIM115 - closed at the end
        halves = "".join(
            f"[{name}]crop={width}:{height}:0:{top},{_TO_YUV}[{name}_yuv];"
            for name, top in (("original", 0), ("decoded", height))
        )
        graph = f"split[original][decoded];{halves}[decoded_yuv][original_yuv]libvmaf=log_fmt=json:log_path=vmaf.json"
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{2 * height}", "-i", "-")
        self._process = subprocess.Popen(
            [ffmpeg, "-hide_banner", "-loglevel", "error", *raw, "-lavfi", graph, "-f", "null", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            cwd=self._folder.name,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()
        self._folder.cleanup()

    def add(self, original: np.ndarray, decoded: np.ndarray) -> None:
        """Frames uint8 (H, W, 3)."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.concatenate([original, decoded]).tobytes())
        except OSError:
            raise self._failed() from None

    def scores(self) -> list[float]:
        """Of all frames that were added. Raises RuntimeError where FFmpeg failed."""
        self._process.communicate()
        if self._process.returncode:
            raise self._failed()
        content = json.loads(self._path("vmaf.json").read_text(encoding="utf-8"))
        return [frame["metrics"]["vmaf"] for frame in content["frames"]]

    def _path(self, name: str) -> Path:
        return Path(self._folder.name, name)

    def _failed(self) -> RuntimeError:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return RuntimeError(f"FFmpeg ended with {self._process.returncode} while it computed VMAF: {said}")


@functools.cache
def find_ffmpeg() -> tuple[str, str] | None:
    """Path and version of an FFmpeg with libvmaf: that of the package imageio-ffmpeg, or else of the system."""
    for path in (_packaged(), shutil.which("ffmpeg")):
        if path is not None and " libvmaf " in _output(path, "-filters"):
            return path, _output(path, "-version").split()[2]
    return None


def _packaged() -> str | None:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # the latter: it has none for this machine
        return None


def _output(path: str, option: str) -> str:
    try:
        return subprocess.run([path, "-hide_banner", option], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
