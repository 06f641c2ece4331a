"""The benchmark of memory, on a picture that takes a moment."""

import json
from pathlib import Path

import pytest

from benchmarks import memory


def test_the_record_has_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "apart", lambda function, *arguments: function(*arguments))
    out = tmp_path / "memory.json"
    memory.main(["--models", "tiny", "--sizes", "64x48", "--repeats", "1", "--threads", "1", "--out", str(out)])
    results = json.loads(out.read_text("utf-8"))["results"]["tiny 64x48"]
    for operation in ("encode", "decode"):
        assert results[operation]["largest_difference"] < 1e-4
        assert results[operation]["stripes_over_whole"] > 0
        assert results[operation]["stripes"].keys() == {"estimated_mb", "peak_mb", "before_mb"}
