"""The benchmark of clips runs, encoder and decoder in processes of their own."""

import json
from pathlib import Path

import pytest

from benchmarks import clip as benchmark

pytestmark = pytest.mark.slow


def test_one_model_is_measured_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip.json"
    benchmark.main(["--models", "tiny", "--sizes", "64x48", "--frames", "3", "--threads", "1", "--out", str(out)])
    figures = json.loads(out.read_text())["results"]["tiny"]["64x48"]
    for operation in ("encode", "decode"):
        taken = figures[operation]["seconds"]
        assert set(taken) == {"intra", "conditional"}
        assert 0 < taken["conditional"]["min"] <= taken["conditional"]["median"] <= taken["conditional"]["max"]
        assert figures[operation]["peak_mb"] is None or figures[operation]["peak_mb"] >= figures[operation]["before_mb"]
    assert figures["file_bytes"] > 50
    assert "conditional" in capsys.readouterr().out


def test_a_single_frame_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse(["--frames", "1"])
    assert "--frames must be 2 or more" in capsys.readouterr().err
