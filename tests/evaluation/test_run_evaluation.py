import csv
import json
import logging
import runpy
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

import glc_train.weights
from glc_train.data import write_picture
from glc_train.evaluation import (
    Curve,
    DataSettings,
    EvaluationSettings,
    compare,
    load_published,
    plot_rate_distortion,
    run_evaluation,
)
from glc_train.evaluation import results as results_module
from glc_train.evaluation.results import PictureResult, QualityMeans, fingerprint, write_text
from glc_train.precision import choose, name_of
from glc_train.weights import WeightsError
from tests.evaluation.fake_codec import ReportingCodec
from tests.metrics.rendered import render
from tests.training_harness import tiny_image


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
        data=DataSettings("folder", str(folder), expected=2, published="kodak"),
        out=str(tmp_path / "out"),
        metrics=["psnr"],
        baselines=["webp"],
        device="cpu",
        progress=False,
    )


def test_the_report_is_complete(settings: EvaluationSettings, capsys: pytest.CaptureFixture[str]) -> None:
    run_evaluation(settings, ReportingCodec())
    out = Path(str(settings.out))
    content = json.loads((out / "results.json").read_text())
    assert content["schema"] == 1
    assert content["weights_sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content["dataset"] == "folder"
    assert content["dtype"] == name_of(choose("cpu").dtype)
    assert {"command", "commit", "date", "device", "dtype", "torch", "machine", "checkpoint"} <= set(content)
    assert set(content["codecs"]) == {"GLC", "webp"}
    for codec in content["codecs"].values():
        assert {frozenset(p) for p in codec["pictures"]} == {frozenset(PictureResult.__annotations__)}
        assert {frozenset(m) for m in codec["means"]} == {frozenset(QualityMeans.__annotations__)}
        assert len(codec["pictures"]) == 6
        assert codec["pictures"][0]["lpips"] is None
    assert [entry["metric"] for entry in content["bd_rates"]] == ["psnr"]
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == 12
    assert float(rows[0]["bpp"]) == content["codecs"]["GLC"]["pictures"][0]["bpp"]
    assert rows[0]["lpips"] == ""
    with Image.open(out / "rate_distortion.png") as plot, Image.open(out / "pictures.png") as grid:
        assert plot.width > 300
        assert grid.size == (4 * (64 + 6), 48 + 56 + 2 * (22 + 6))
    shown = capsys.readouterr().out
    assert "GLC" in shown
    assert "No BD-rate for PSNR against webp" in shown or "BD-rate at equal PSNR" in shown


def test_no_file_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "results.json"
    write_text(target, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(results_module.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DataSettings("kodak", expected=24)}, "give data.root=FOLDER"),
        ({"expected": 24}, "holds 2 pictures and folder has 24"),
        ({"limit": 0}, "limit=0: give 1 or more"),
        ({"baselines": ["vtm"]}, "no baseline 'vtm'"),
        ({"metrics": ["vmaf"]}, "no metric named 'vmaf'"),
        ({"inception": "nowhere.pth"}, r"nowhere\.pth does not exist"),
        ({"qualities": [7]}, "from 0 to 2"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: EvaluationSettings, change: dict[str, Any], message: str) -> None:
    values = vars(settings) | {k: v for k, v in change.items() if k != "expected"}
    if "expected" in change:
        values["data"] = replace(settings.data, **change)
    with pytest.raises(ValueError, match=message):
        run_evaluation(EvaluationSettings(**values), ReportingCodec())
    assert not Path(str(settings.out)).exists()


def test_without_a_checkpoint_the_installed_weights_are_measured(
    settings: EvaluationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "installed" / "one.safetensors"
    weights.parent.mkdir()
    tiny_image(weights)
    monkeypatch.setattr(glc_train.weights, "PRETRAINED", weights.parent)
    run_evaluation(EvaluationSettings(**vars(settings) | {"ckpt": None, "baselines": [], "qualities": [0]}))
    facts = json.loads((Path(str(settings.out)) / "results.json").read_text())
    assert facts["checkpoint"] == str(weights)
    assert facts["weights_sha256"] == fingerprint(str(weights))
    monkeypatch.setattr(glc_train.weights, "PRETRAINED", tmp_path / "none")
    with pytest.raises(WeightsError, match="carries no weights: name an export"):
        run_evaluation(EvaluationSettings(**vars(settings) | {"ckpt": None}))


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
    with initialize_config_dir(str(repository / "conf" / "evaluation"), version_base="1.3"):
        config = compose("evaluate", [f"data={name}", "ckpt=x"])
    settings = EvaluationSettings.from_config(config)
    assert settings.data.expected == expected
    assert settings.data.published == published
    assert settings.out is None
    if published:
        assert load_published(published)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a program runs in, which changes how signals are handled and where the log goes."""
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("program", "argument", "sentence"),
    [
        ("evaluate.py", "ckpt=nowhere.ckpt", "no weights file at nowhere.ckpt: give the path of"),
        ("evaluate.py", "qualites=0", "qualites: there is no such option; perhaps qualities is meant."),
        ("evaluate.py", "data=folder", "The folder of folder is not known: give data.root=FOLDER."),
        (
            "train.py",
            "trainer.devises=1",
            "trainer.devises: there is no such option; perhaps trainer.devices is meant.",
        ),
        ("train.py", "experiment=glc_imag", "experiment=glc_imag: there is none; perhaps glc_image is meant."),
    ],
)
def test_a_program_ends_with_one_sentence_and_leaves_nothing(
    program: str, argument: str, sentence: str, repository: Path, in_folder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", [program, argument])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(repository / program), run_name="__main__")
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith(sentence)
    assert shown.count("\n") == 1
    assert list(in_folder.iterdir()) == []


def test_a_fingerprint_is_the_sha256_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert fingerprint(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
