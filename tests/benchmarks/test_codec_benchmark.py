"""The benchmark of files runs, and its plain path decodes what it encodes."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import codec as benchmark
from glc_train.data import render_picture

pytestmark = pytest.mark.slow


def test_one_model_is_measured_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "codec.json"
    benchmark.main(["--models", "tiny", "--size", "64", "48", "--repeats", "2", "--threads", "1", "--out", str(out)])
    figures = json.loads(out.read_text())["results"]["tiny"]
    assert figures["parameters"] > 1e6
    for operation in ("encode", "decode"):
        ratio = figures[operation]["exact_over_plain"]
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
        assert figures[operation]["peak_mb"] is None or figures[operation]["peak_mb"] >= figures[operation]["before_mb"]
    assert capsys.readouterr().out.count("the plain float path") == 2


def test_the_plain_path_shows_the_same_picture() -> None:
    codec = benchmark.build_model("tiny", None, "cpu")
    plain = benchmark.float_codec(codec)
    picture = render_picture(48, 64, 0)
    exact = codec.decompress(codec.compress(picture, 0)).astype(int)
    found = plain.decompress(plain.compress(picture, 0)).astype(int)
    assert np.abs(found - exact).mean() < 2


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no model vast.*tiny"):
        benchmark.build_model("vast", None, "cpu")
