"""The benchmark of clips runs, encoder and decoder in processes of their own."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import clip as benchmark

pytestmark = pytest.mark.slow


def test_one_model_is_measured_and_recorded(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clip.json"
    benchmark.main(
        [
            "--models",
            "tiny",
            "--sizes",
            "64x48",
            "--frames",
            "3",
            "--threads",
            "1",
            "--out",
            str(out),
            "--rounds",
            "1",
            "--before",
            str(repository),
        ]
    )
    figures = json.loads(out.read_text())["results"]["tiny"]["64x48"]
    for operation in ("encode", "decode"):
        assert set(figures[operation]["frames_per_second"]) == {"several_at_a_time", "one_by_one", "before"}
        for rate in figures[operation]["frames_per_second"].values():
            assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        assert figures[operation]["peak_mb"] is None or figures[operation]["peak_mb"] >= figures[operation]["before_mb"]
    assert figures["file_bytes"] > 50
    assert "several at a time" in capsys.readouterr().out


def test_large_clips_are_enlarged_and_go_back_and_forth() -> None:
    case = benchmark.Case("tiny", None, 1000, 401, 16, 1, "cpu", "auto", 1)
    frames = case.clip()
    assert len(frames) == 16
    assert frames[0].shape == (401, 1000, 3)
    assert all((frames[t] == frames[14 - t]).all() for t in range(8))
    assert (frames[14] == frames[0]).all()
    assert not any((a == b).all() for a, b in pairwise(frames))


def test_a_single_frame_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse(["--frames", "1"])
    assert "--frames must be 2 or more" in capsys.readouterr().err
