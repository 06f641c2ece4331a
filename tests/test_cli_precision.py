"""`glc --dtype`: chosen by default, said in one line, and of no consequence for who can read a file."""

import logging
from pathlib import Path

import numpy as np
import pytest

from glc_train import cli, precision
from glc_train.data import render_picture
from glc_train.media import read_picture, write_picture
from tests.test_cli import save_tiny


def test_each_arithmetic_reads_the_files_of_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_probe_cpu", lambda device: (False, "pretended"))
    monkeypatch.setattr(precision, "slowdown", lambda device: 30.0)
    photo, weights = tmp_path / "photo.png", save_tiny(tmp_path / "weights.safetensors", 1)
    write_picture(photo, render_picture(64, 48, 3))

    def said(*arguments: object) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO, precision.__name__):
            assert cli.main([*map(str, arguments), "--weights", str(weights), "--device", "cpu"]) == 0
        return caplog.messages

    slow = "bfloat16 is slow here: pretended; a matrix product takes 30 times as long as in float32"
    decoded = []
    for dtype, line in (("float32", []), ("bfloat16", [slow]), ("auto", ["computing in float32: pretended"])):
        assert said("compress", photo, tmp_path / f"{dtype}.glc", "--dtype", dtype) == line
    for dtype in ("float32", "bfloat16", "auto"):
        assert said("decompress", tmp_path / f"{dtype}.glc", tmp_path / f"{dtype}.png") == [
            "computing in float32: pretended"
        ]
        decoded.append(read_picture(tmp_path / f"{dtype}.png"))
    assert np.array_equal(decoded[0], decoded[2])
    said("decompress", tmp_path / "float32.glc", tmp_path / "low.png", "--dtype", "bfloat16")
    difference = read_picture(tmp_path / "low.png").astype(int) - decoded[0]
    assert 0 < abs(difference).max() < 16, "only the pixels' last levels depend on it"


def test_the_options_are_those_that_can_be_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["compress", "--help"])
    assert f"--dtype {{{','.join(precision.NAMES)}}}" in capsys.readouterr().out
