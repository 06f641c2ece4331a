"""An evaluation that was killed goes on where it was, and ends with the bytes of one that was not."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from torch import Tensor

from glc_train.evaluation import Clip, EvaluationError, EvaluationSettings, Result, run_evaluation
from glc_train.evaluation.kept import FOLDER, Kept
from glc_train.evaluation.results import FrameResult
from glc_train.media import write_picture
from tests.evaluation.fake_codec import FakeResult, ReportingCodec
from tests.evaluation.sections import baselines, metrics, pictures
from tests.metrics.rendered import render

HEIGHTS = (40, 48, 56)
coded: list[tuple[int, int]] = []


class Codec(ReportingCodec):
    """Notes what it codes."""

    def compress_with_report(self, picture: np.ndarray, quality: int) -> FakeResult:
        coded.append((len(picture), quality))
        return super().compress_with_report(picture, quality)


def error(original: Tensor, decoded: Tensor) -> Tensor:
    """Waits for its end at the last picture, where the environment says so."""
    while original.shape[2] == HEIGHTS[-1] and "STALL" in os.environ:
        time.sleep(1)
    return (original - decoded).abs().mean()


SETTINGS = EvaluationSettings(
    pictures("pictures"),
    codec={"own": {"_target_": f"{__name__}.Codec"}},
    baselines=baselines("webp"),
    metrics=metrics("psnr") | {"error": {"_target_": f"{__name__}.error", "_partial_": True}},
    qualities=[0, 2],
    device="cpu",
    out="out",
    progress=False,
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    coded.clear()
    for number, height in enumerate(HEIGHTS):
        write_picture(f"pictures/p{number}.png", render(height, 64))


@pytest.fixture
def killed(repository: Path) -> None:
    """After an evaluation in a process of its own was killed at the third picture."""
    program = f"from {__name__} import *; run_evaluation(SETTINGS)"
    environment = os.environ | {"STALL": "1", "PYTHONPATH": str(repository)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL) as process:
        last = Path("out", FOLDER, "webp/q2/p1.safetensors")
        while not last.exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def everything(folder: str) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name not in ("timings.json", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.usefixtures("killed")
def test_the_same_command_goes_on_after_a_kill() -> None:
    Path("out/files/q2/p0.glc").unlink()  # what is lost is coded again
    run_evaluation(SETTINGS)
    assert set(coded) >= {(HEIGHTS[0], 2), (HEIGHTS[2], 0), (HEIGHTS[2], 2)}
    assert not {(HEIGHTS[0], 0), (HEIGHTS[1], 0), (HEIGHTS[1], 2)} & set(coded[1:])  # the first is the warm-up
    run_evaluation(replace(SETTINGS, out="whole"))
    assert everything("out") == everything("whole")
    assert not Path("out", FOLDER).exists()


def test_the_same_command_twice_gives_the_same_bytes() -> None:
    run_evaluation(SETTINGS)
    first = everything("out")
    assert {"results.json", "results.csv", "rate_distortion.png", "pictures.png", "settings.json"} < first.keys()
    run_evaluation(SETTINGS)
    assert everything("out") == first
    assert coded.count((HEIGHTS[1], 0)) == 2, "a whole evaluation is done again"


def test_what_could_be_measured_is_kept_when_a_picture_fails() -> None:
    whole = Path("pictures/p2.png").read_bytes()
    write_picture("pictures/p2.png", render(300, 64))
    refusing = replace(SETTINGS, codec={"own": {"_target_": "tests.evaluation.fake_codec.DamagedCodec"}}, baselines={})
    with pytest.raises(EvaluationError, match=r"^1 of 3 pictures could not be measured: p2 at quality 0"):
        run_evaluation(refusing)
    assert len(list(Path("out", FOLDER).rglob("*.safetensors"))) == 4
    Path("pictures/p2.png").write_bytes(whole)
    (results,) = run_evaluation(refusing)
    assert len(results.results) == 6


def test_what_a_codec_of_ones_own_gave_before_it_was_changed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(".")
    write_picture("pictures/p2.png", render(300, 64))
    own = replace(SETTINGS, codec={"own": {"_target_": "own_codec.Codec"}}, baselines={})
    times = []
    for body in ("pass", "pass", "changed = True"):
        Path("own_codec.py").write_text(
            f"from tests.evaluation.fake_codec import DamagedCodec\n\n\nclass Codec(DamagedCodec):\n    {body}\n"
        )
        sys.modules.pop("own_codec", None)
        with pytest.raises(EvaluationError, match="1 of 3 pictures"):
            run_evaluation(own)
        times.append(Path("out", FOLDER, "own/q0/p0.safetensors").stat().st_mtime_ns)
    assert times[0] == times[1] < times[2]


def test_two_evaluations_at_once_do_not_write_in_one_folder() -> None:
    Path("out").mkdir()
    with FileLock("out/.lock"), pytest.raises(EvaluationError, match=r"^out: another evaluation writes there"):
        run_evaluation(SETTINGS)
    assert not Path("out/settings.json").exists()
    assert not coded


def test_a_result_comes_back_as_it_was_unless_anything_changed(tmp_path: Path) -> None:
    clip = Clip("c", tmp_path / "c.y4m")
    clip.path.write_bytes(b"abc")
    features = (np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32))
    frames = (FrameResult("intra", 9, {"psnr": 1 / 3, "flicker": None}, features), FrameResult("p", 1, {"psnr": 2.0}))
    result = Result("GLC", "c", 1, 48, 64, 10, 0.1, None, {"psnr": float("inf")}, 0.5, 0.25, frames, 25.0)
    kept = Kept(tmp_path, "settings")
    kept.keep(clip, result)
    found = kept.find(clip, "GLC", 1)
    assert found is not None
    assert found.frames[0].features is not None
    for mine, theirs in zip(found.frames[0].features, features, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    without = tuple(replace(frame, features=None) for frame in found.frames)
    assert replace(found, frames=without) == replace(
        result, frames=tuple(replace(frame, features=None) for frame in frames)
    )
    assert Kept(tmp_path, "others").find(clip, "GLC", 1) is None
    assert kept.find(clip, "GLC", 2) is None
    clip.path.write_bytes(b"abcd")
    assert kept.find(clip, "GLC", 1) is None
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"cut off")
    assert kept.find(clip, "GLC", 1) is None
