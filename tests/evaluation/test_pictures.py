import csv
import json
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from benchmarks.measures import model_config
from glc_train import files
from glc_train.autoencoder import VQVAE
from glc_train.evaluation import (
    Curve,
    EvaluationSettings,
    compare,
    load_published,
    plot_rate_distortion,
    run_evaluation,
)
from glc_train.files import sha256_of, write_text
from glc_train.media import write_picture
from glc_train.precision import choose, name_of
from glc_train.weights import WeightsError, build_codec, save_codec, store
from tests.evaluation.fake_codec import ReportingCodec
from tests.evaluation.sections import baselines, metrics, pictures
from tests.metrics.rendered import render
from tests.training_harness import tiny_image

COLUMNS = "codec picture quality height width bytes bpp estimated_bpp ideal_bpp psnr ms_ssim lpips dists"
MEANS = "quality pictures bpp estimated_bpp ideal_bpp rate_gap psnr ms_ssim lpips dists fid kid patches"


@pytest.fixture
def settings(tmp_path: Path) -> EvaluationSettings:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        write_picture(folder / f"p{number}.png", render(48 + 8 * number, 64))
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"abc")
    return EvaluationSettings(
        ckpt=str(weights),
        data=pictures(folder, expected=2, published="kodak"),
        out=str(tmp_path / "out"),
        metrics=metrics("psnr"),
        baselines=baselines("webp"),
        device="cpu",
        progress=False,
    )


def test_the_report_is_complete(settings: EvaluationSettings, capsys: pytest.CaptureFixture[str]) -> None:
    run_evaluation(settings, ReportingCodec())
    out = Path(str(settings.out))
    content = json.loads((out / "results.json").read_text())
    assert content["schema"] == 2
    assert content["weights_sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content["dataset"] == "folder"
    assert content["dtype"] == name_of(choose("cpu").dtype)
    assert {"command", "commit", "device", "dtype", "hardware", "packages", "checkpoint"} <= set(content)
    assert content["packages"]["torch"] == torch.__version__
    package = {"package": "glc_train", "version": version("glc_train")}
    assert (
        content["metrics"]["psnr"].items()
        >= ({"reason": None, "missing": [], "weights_sha256": None} | package).items()
    )
    assert content["metrics"]["lpips"]["reason"] == "it is not among metrics="
    assert content["metrics"]["fid"]["reason"].startswith("inception= was not given")
    assert set(content["codecs"]) == {"GLC", "webp"}
    for codec in content["codecs"].values():
        assert {" ".join(p) for p in codec["pictures"]} == {COLUMNS}
        assert {" ".join(sorted(m)) for m in codec["means"]} == {" ".join(sorted(MEANS.split()))}
        assert len(codec["pictures"]) == 6
        assert codec["pictures"][0]["lpips"] is None
    assert [(entry["anchor"], entry["metric"]) for entry in content["bd_rates"]] == [("webp", "psnr")]
    assert content["notes"] == ["Published curves are left out: they are of 24 pictures, these results of 2 pictures."]
    timings = json.loads((out / "timings.json").read_text())
    for codec in timings["codecs"].values():
        assert [set(m) for m in codec["means"]] == [{"quality", "encode_seconds", "decode_seconds"}] * 3
        assert [(p["picture"], p["quality"]) for p in codec["pictures"]] == [
            (f"p{n}", q) for n in (0, 1) for q in range(3)
        ]
        assert all(p["encode_seconds"] > 0 for p in codec["pictures"])
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == 12
    assert " ".join(rows[0]) == COLUMNS
    assert float(rows[0]["bpp"]) == content["codecs"]["GLC"]["pictures"][0]["bpp"]
    assert rows[0]["lpips"] == ""
    with Image.open(out / "rate_distortion.png") as plot, Image.open(out / "pictures.png") as grid:
        assert plot.width > 300
        assert grid.size == (4 * (64 + 6), 48 + 56 + 2 * (22 + 6))
    shown = capsys.readouterr().out
    assert "GLC" in shown
    assert content["notes"][0] in shown
    assert "No BD-rate for PSNR against webp" in shown or "BD-rate at equal PSNR" in shown


def test_no_file_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "results.json"
    write_text(target, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"name": "kodak", "root": None}}, "give data.test.root=FOLDER"),
        ({"data": {"expected": 24}}, "holds 2 pictures and folder has 24"),
        ({"limit": 0}, "limit=0: give 1 or more"),
        ({"codec": baselines("webp")}, r"weights\.bin: webp takes no weights from there"),
        ({"rates": [0.1]}, "^rates= is of codecs that code to a number of bytes"),
        ({"rates": [0.1, 0.1]}, r"^rates=\[0\.1, 0\.1\]: give distinct positive bits per pixel"),
        ({"ckpt": None, "codec": baselines("webp")}, "^webp is the codec under test: leave it out of the baselines"),
        ({"ckpt": None, "codec": baselines("avif", "jpeg")}, "^codec has avif and jpeg: give one"),
        (
            {"metrics": {"own": {"_target_": "nowhere.Metric"}}},
            r"^metrics\.own\._target_=nowhere\.Metric: there is no such class \(No module",
        ),
        ({"metrics": {"own": {"_target_": "glc_train.metrics.LPIPS", "size": 3}}}, r"^metrics\.own: .*'size'"),
        ({"metrics": {"own": "psnr"}}, r"^metrics\.own is not .* give metrics\.own\._target_=CLASS\.$"),
        ({"inception": "nowhere.pth"}, r"nowhere\.pth does not exist"),
        ({"qualities": [7]}, "from 0 to 2"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: EvaluationSettings, change: dict[str, Any], message: str) -> None:
    values = vars(settings) | change | {"data": settings.data | change.get("data", {})}
    with pytest.raises(ValueError, match=message):
        run_evaluation(EvaluationSettings(**values), ReportingCodec())
    assert not Path(str(settings.out)).exists()


def test_without_a_checkpoint_the_installed_weights_are_measured(
    settings: EvaluationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "installed" / "one.safetensors"
    weights.parent.mkdir()
    tiny_image(weights)
    monkeypatch.setattr(store, "PRETRAINED", weights.parent)
    run_evaluation(EvaluationSettings(**vars(settings) | {"ckpt": None, "baselines": {}, "qualities": [0]}))
    facts = json.loads((Path(str(settings.out)) / "results.json").read_text())
    assert facts["checkpoint"] == str(weights)
    assert facts["weights_sha256"] == sha256_of(str(weights))
    monkeypatch.setattr(store, "PRETRAINED", tmp_path / "none")
    with pytest.raises(WeightsError, match="carries no weights of an image codec: name an export"):
        run_evaluation(EvaluationSettings(**vars(settings) | {"ckpt": None}))


class Own(VQVAE):
    """A network of the user's own."""


class Broken:
    def __init__(self) -> None:
        raise TypeError("a mistake of its author")


def test_networks_of_ones_own_are_measured_where_they_are_named(settings: EvaluationSettings, tmp_path: Path) -> None:
    config = model_config()
    config["autoencoder"]["_target_"] = name = f"{__name__}.Own"
    save_codec(build_codec(config, trusted=True), config, tmp_path / "own.safetensors")
    settings = replace(settings, ckpt=str(tmp_path / "own.safetensors"), baselines={}, qualities=[0])
    with pytest.raises(WeightsError, match=re.escape(f"trusted=[{name}]")):
        run_evaluation(settings)
    (results,) = run_evaluation(replace(settings, trusted=[name]))
    assert len(results.results) == 2


def test_a_mistake_in_a_metric_keeps_its_traceback(settings: EvaluationSettings) -> None:
    with pytest.raises(TypeError, match="a mistake of its author"):
        run_evaluation(replace(settings, metrics={"own": {"_target_": f"{__name__}.Broken"}}), ReportingCodec())


def test_bd_rates_of_published_curves_and_refusals() -> None:
    curves = {curve.name: curve for curve in load_published("kodak")}
    ours = Curve("ours", tuple({**p, "bpp": p["bpp"] * 0.9} for p in curves["GLC-image"].points))
    found = {(e["anchor"], e["metric"]): e for e in compare(ours, list(curves.values()))}
    assert found["GLC-image", "lpips"]["percent"] == pytest.approx(-10)
    assert found["VTM", "dists"]["percent"] is None
    assert "do not overlap" in found["VTM", "dists"]["reason"]


def test_a_plot_needs_a_metric(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_rate_distortion([Curve("empty", ({"bpp": 0.1},))], [], tmp_path / "plot.png")


@pytest.mark.parametrize(
    ("name", "expected", "published"),
    [
        ("packaged", 4, None),
        ("folder", None, None),
        ("kodak", 24, "kodak"),
        ("clic2020", 428, "clic2020"),
        ("div2k", 100, "div2k"),
    ],
)
def test_every_data_set_composes(repository: Path, name: str, expected: int | None, published: str | None) -> None:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose("evaluate", [f"data={name}", "ckpt=x"])
    settings = EvaluationSettings.from_config(config)
    data = settings.build_data()
    assert data.expected == expected
    assert data.published == published
    assert settings.out is None
    if published:
        assert load_published(published)


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert sha256_of(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
