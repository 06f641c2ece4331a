"""Reading the logs of resumed runs."""

from pathlib import Path

import pytest

from glc_train.training import LogError, read_curve
from glc_train.training.logs import read_curves


def _log(stage: Path, version: int, text: str) -> None:
    folder = stage / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)


@pytest.fixture
def resumed(tmp_path: Path) -> Path:
    _log(tmp_path, 9, "epoch,step,train/loss,val/psnr/stage_I\n0,0,4.0,\n0,1,3.0,\n0,2,2.5,\n0,2,,20.0\n")
    _log(tmp_path, 10, "epoch,step,train/loss\n0,2,2.0\n0,3,1.0\n0,4,0.5")
    (tmp_path / "csv" / "version_11").mkdir()  # killed before its first entry
    return tmp_path


def test_the_later_version_wins_and_cut_rows_are_left_out(resumed: Path) -> None:
    assert read_curve(resumed, "train/loss") == {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}
    assert read_curve(resumed, "val/psnr/stage_I") == {2: 20.0}
    assert {name: list(curve) for name, curve in read_curves(resumed).items()} == {
        "train/loss": [0, 1, 2, 3],
        "val/psnr/stage_I": [2],
    }


def test_a_folder_without_logs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"metrics\.csv"):
        read_curve(tmp_path, "train/loss")


def test_a_column_that_is_missing_or_no_number(tmp_path: Path) -> None:
    _log(tmp_path, 0, "epoch,step,train/loss\n0,0,1\n")
    with pytest.raises(LogError, match=r"never logged 'val/psnr/q0'; it has train/loss"):
        read_curve(tmp_path, "val/psnr/q0")
    _log(tmp_path, 1, "epoch,step,train/loss\n0,1,1.x\n")
    with pytest.raises(LogError, match=r"damaged: .*1\.x"):
        read_curve(tmp_path, "train/loss")
