"""Logs of resumed runs, and the program that compares runs."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glc_train.training import LogError, read_curve
from glc_train.training.compare import main, smooth, stage_folder


def _log(stage: Path, version: int, text: str) -> None:
    folder = stage / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a" / "joint", tmp_path / "b" / "joint"
    _log(a, 9, "epoch,step,train/loss,val/psnr/stage_I\n0,0,4.0,\n0,1,3.0,\n0,2,2.5,\n0,2,,20.0\n")
    _log(a, 10, "epoch,step,train/loss\n0,2,2.0\n0,3,1.0\n0,4,0.5")
    (a / "csv" / "version_11").mkdir()  # killed before its first entry
    _log(b, 0, "epoch,step,train/loss,val/psnr/stage_I\n0,0,8.0,\n0,3,2.0,\n0,3,,22.0\n")
    return a, b


def test_the_later_version_wins_and_cut_rows_are_left_out(runs: tuple[Path, Path]) -> None:
    assert read_curve(runs[0], "train/loss") == {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}
    assert read_curve(runs[0], "val/psnr/stage_I") == {2: 20.0}


def test_a_name_that_is_not_utf_8_is_drawn_and_printed(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = runs[1].rename(tmp_path / os.fsdecode(b"odd \xff"))
    assert main([str(odd), "--out", str(tmp_path / "compare.png")]) == 0
    assert r"odd \udcff" in capsys.readouterr().out
    assert (tmp_path / "compare.png").is_file()


def test_compare_draws_and_prints(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plots" / "compare.png"
    assert main([str(runs[0].parent), str(runs[1]), "--smooth", "0", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines[1:5]] == [
        ["train/loss", str(runs[0].parent), "3", "1", "1"],
        ["train/loss", str(runs[1]), "3", "2", "2"],
        ["val/psnr/stage_I", str(runs[0].parent), "2", "20", "20"],
        ["val/psnr/stage_I", str(runs[1]), "3", "22", "22"],
    ]
    assert lines[2].endswith("+100.0%")
    assert lines[4].endswith("+10.0%")
    picture = np.asarray(Image.open(out).convert("RGB"))
    assert picture.shape[1] > 2 * picture.shape[0], "two panels side by side"
    for colour in ((31, 119, 180), (255, 127, 14)):  # a curve of each run
        assert (np.abs(picture.astype(int) - colour).sum(-1) < 30).sum() > 20
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/nowhere"], ["no folder", "nowhere"]),
        (["{tmp}/empty"], ["holds no logs", "empty"]),
        (["{tmp}/two"], ["several stages", "autoencoder", "joint"]),
        (["{tmp}/b", "--metric", "train/nothing"], ["train/nothing", "train/loss"]),
        (["{tmp}/b", "--smooth", "1"], ["--smooth", "below 1"]),
        (["{tmp}/bare"], ["metrics.csv", "bare"]),
        (["{tmp}/b", "{tmp}/other"], ["share none", "train/psnr"]),
        (["{tmp}/damaged", "--metric", "train/loss"], ["damaged", "1.x"]),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], words: list[str], runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "csv").mkdir(parents=True)
    _log(tmp_path / "two" / "autoencoder", 0, "epoch,step,train/loss\n0,0,1\n")
    _log(tmp_path / "two" / "joint", 0, "epoch,step,train/loss\n0,0,1\n")
    _log(tmp_path / "other", 0, "epoch,step,train/bpp_y\n0,0,1\n")
    _log(tmp_path / "damaged", 0, "epoch,step,train/loss\n0,0,1.x\n")
    out = tmp_path / "never.png"
    assert main([*(a.format(tmp=tmp_path) for a in arguments), "--out", str(out)]) == 1
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not out.exists()


def test_a_folder_without_logs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"metrics\.csv"):
        read_curve(tmp_path, "train/loss")


def test_a_run_with_one_stage_stands_for_it(runs: tuple[Path, Path]) -> None:
    assert stage_folder(runs[0].parent) == runs[0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 0.99))
def test_smoothing_stays_within_what_it_averages(values: list[float], weight: float) -> None:
    smoothed = smooth(values, weight)
    assert len(smoothed) == len(values)
    assert smoothed[0] == pytest.approx(values[0])
    for k, value in enumerate(smoothed):
        slack = 1e-6 * max(map(abs, values)) + 1e-9
        assert min(values[: k + 1]) - slack <= value <= max(values[: k + 1]) + slack


def test_smoothing_is_the_weighted_mean_and_passes_nan_over() -> None:
    assert smooth([1.0, 3.0], 0.5)[1] == pytest.approx((0.5 * 1 + 3) / 1.5)
    assert smooth([1.0, float("nan"), 3.0], 0.5)[2] == pytest.approx((0.5 * 1 + 3) / 1.5)
