"""The benchmark of the auto-encoder runs; both ways give the same."""

import json
from pathlib import Path

import pytest

from benchmarks import autoencoder as benchmark


def test_a_model_is_measured_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "autoencoder.json"
    benchmark.main(["--models", "tiny", "--sizes", "64x48", "--repeats", "1", "--threads", "1", "--out", str(out)])
    case = json.loads(out.read_text())["results"]["cases"]["tiny 64x48"]
    for operation in ("encode", "decode"):
        assert case[operation]["ours"]["error"] < 1e-3
    assert case["decode"]["ours"]["tflop"] < case["decode"]["plain"]["tflop"]
    assert case["both"]["plain"]["times_as_fast_as_plain"] == 1
    assert capsys.readouterr().out.count("x plain") == 2
