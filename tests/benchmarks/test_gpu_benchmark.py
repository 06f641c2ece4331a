"""The one command for a GPU: what fails or takes too long keeps nothing else from running."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu

SLEEPS = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).wait()"


def test_a_failing_and_an_endless_part_are_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {
        "failing": "print('first'); raise SystemExit(3)",
        "endless": SLEEPS,
        "good": "print('\\n'.join(map(str, range(99))))",
    }
    parts = [gpu.Part(name, name, 2.0) for name in programs]
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu.Part, "command", lambda part, *_: [sys.executable, "-c", programs[part.name]])
    start = time.monotonic()
    assert gpu.main([str(tmp_path / "out"), "--device", "cpu"]) == 1
    assert time.monotonic() - start < 30
    out = capsys.readouterr().out
    assert "failing: failed with exit code 3" in out
    assert "endless: ended after its 2 s" in out
    assert "good: done" in out
    page = (tmp_path / "out" / "summary.txt").read_text()
    assert page in out
    assert "   98" in page
    assert "   10\n" not in page
    assert (tmp_path / "out" / "failing.log").read_text() == "first\n"


def test_no_part_begins_when_the_time_is_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([str(tmp_path), "--device", "cpu", "--seconds", "0"]) == 1
    assert capsys.readouterr().out.count("not begun: no time left") == len(gpu.PARTS)


def test_the_parts_fit_the_time() -> None:
    times = {part.name: part.seconds for part in gpu.PARTS}
    assert sum(times[name] for name in ("tests", "autoencoder", "codec", "clip", "step")) <= gpu.ALL_SECONDS < 240
    files = [each for each in gpu.PARTS[0].arguments if each.endswith(".py")]
    assert len(files) >= 2
    assert all(os.path.exists(file) for file in files)


@pytest.mark.slow
def test_a_try_on_the_processor(tmp_path: Path) -> None:
    assert gpu.main([str(tmp_path), "--device", "cpu", "--tiny"]) == 0
    records = {path.stem for path in tmp_path.glob("*.json")}
    assert records == {part.name for part in gpu.PARTS if part.module != "pytest"}
    assert all(json.loads((tmp_path / f"{name}.json").read_text())["results"] for name in records)
