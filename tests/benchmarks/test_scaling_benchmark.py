"""The benchmarks of growth and of start-up: lines, the plot, and what they run."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import scaling, startup


def _points(values: list[float]) -> list[scaling.Point]:
    return [
        {"x": x, "seconds": y, "processor_seconds": 2 * y, "peak_mb": 100.0}
        for x, y in zip((1.0, 2.0, 4.0, 8.0), values, strict=True)
    ]


def test_a_line_is_told_from_a_curve() -> None:
    straight = scaling.line(_points([5, 7, 11, 19]), "seconds")
    assert straight == pytest.approx({"start": 3, "slope": 2, "residual": 0, "exponent": 1}, abs=1e-9)
    curved = scaling.line(_points([1, 4, 16, 64]), "seconds")
    assert curved["residual"] > 0.05
    assert curved["exponent"] > 1.5
    assert scaling.line(_points([5, 7, 11, 19]), "peak_mb") == pytest.approx(
        {"start": 100, "slope": 0, "residual": 0, "exponent": 0}, abs=1e-9
    )


def test_record_and_plot_of_every_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep(folder: Path, options: Any) -> Iterator[tuple[str, scaling.Point]]:
        assert folder.is_dir()
        for point in _points([5, 7, 11, 19]):
            yield "compress", point
            yield "decompress", point | {"peak_mb": 50 * point["x"]}

    for name in scaling.SWEEPS:
        monkeypatch.setattr(scaling, name, sweep)
    scaling.main(["--out", str(tmp_path / "scaling.json")])
    results = json.loads((tmp_path / "scaling.json").read_text())["results"]
    assert list(results) == list(scaling.SWEEPS)
    assert results["frames"]["decompress"]["peak_mb"]["slope"] == pytest.approx(50)
    with Image.open(tmp_path / "scaling.png") as image:
        assert min(image.size) > 300


@pytest.mark.parametrize("arguments", [["--frames", "2", "3"], ["--megapixels", "0", "1", "2"], ["--sweeps", "bytes"]])
def test_bad_sweeps_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        scaling.parse(arguments)


def test_a_process_is_measured_alone() -> None:
    program = "import time; x = bytearray(200 << 20); time.sleep(0.3); y = sum(range(10**6))"
    found = startup.started([sys.executable, "-c", program])
    assert found["peak_mb"] > 200
    assert found["seconds"] > 0.3
    assert found["processor_seconds"] > 0
    assert startup.started([sys.executable, "-c", "pass"])["peak_mb"] < 100
    with pytest.raises(RuntimeError, match="failed"):
        startup.started([sys.executable, "-c", "raise SystemExit(2)"])


@pytest.mark.slow
def test_commands_start(tmp_path: Path) -> None:
    startup.main(["--rounds", "1", "--out", str(tmp_path / "startup.json")])
    results = json.loads((tmp_path / "startup.json").read_text())["results"]
    assert results["glc --help"]["processor_seconds"]["min"] < results["import torch"]["processor_seconds"]["min"]
    assert results["glc compress 64x64"]["peak_mb"]["min"] > results["python"]["peak_mb"]["min"]


@pytest.mark.slow
def test_pictures_clips_and_steps_are_measured(tmp_path: Path) -> None:
    sizes = ["--megapixels", "0.01", "0.02", "0.03", "--frames", "2", "3", "4", "--batches", "1", "2", "3"]
    scaling.main([*sizes, "--threads", "1", "--out", str(tmp_path / "scaling.json")])
    results = json.loads((tmp_path / "scaling.json").read_text())["results"]
    for series in results.values():
        for found in series.values():
            assert len(found["points"]) == 3
            assert all(point["seconds"] > 0 and point["peak_mb"] > 50 for point in found["points"])
