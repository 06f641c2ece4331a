"""The curve over effort: measured through files, recorded, drawn, and not measured again."""

import json
from pathlib import Path

import pytest

from benchmarks import effort as benchmark
from glc_train.media import write_picture
from tests.metrics.rendered import render
from tests.training_harness import tiny_image


def test_efforts_are_measured_once_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_picture(tmp_path / "pictures" / f"p{number}.png", render(40, 70))
    own = ["distortion._target_=tests.evaluation.test_effort.own", "+distortion._partial_=true"]
    given = ["--rate", "1", "--every", "2", "--metrics", "psnr", "--threads", "1", "--device", "cpu"]
    command = [str(tmp_path / "pictures"), str(tmp_path / "out"), *given, "--efforts", "0", "3"]
    command += ["--set", f"ckpt={tiny_image(tmp_path / 'tiny.safetensors')}", "save_pictures=false", *own]
    benchmark.main(command)
    record = json.loads((tmp_path / "out" / "effort.json").read_text())
    assert record["pictures"] == ["p1.png"]
    assert [row["effort"] for row in record["efforts"]] == [0, 3]
    assert record["efforts"][1]["psnr"] > record["efforts"][0]["psnr"]
    assert all(row["bpp"] <= 1 for row in record["efforts"])
    assert (tmp_path / "out" / "effort.png").stat().st_size > 1000
    written = (tmp_path / "out" / "e3" / "results.json").stat().st_mtime_ns
    benchmark.main(command)
    assert (tmp_path / "out" / "e3" / "results.json").stat().st_mtime_ns == written
    capsys.readouterr()
