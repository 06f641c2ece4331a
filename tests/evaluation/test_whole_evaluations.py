"""What holds of evaluations of pictures and clips alike: folders, unreadable input, missing figures, interruptions."""

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glc_train import interruption
from glc_train.evaluation import EvaluationError, EvaluationSettings, run_evaluation
from glc_train.media import write_picture
from glc_train.metrics import PictureMetrics
from tests.evaluation.fake_codec import FakeCodec, FakeResult, ReportingCodec
from tests.evaluation.sections import baselines, metrics, pictures
from tests.metrics.rendered import render

DECODED = {"_target_": "glc_train.evaluation.DecodedFolder", "decoded": "pictures", "bits": "out/results.csv"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationSettings:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_picture(f"pictures/p{number}.png", render(40 + 8 * number, 64))
    for name in ("a", "b"):
        weights = Path(name, "weights.safetensors")
        weights.parent.mkdir()
        weights.write_text(name)
    return EvaluationSettings(
        pictures("pictures"),
        ckpt="a/weights.safetensors",
        qualities=[0],
        metrics=metrics("psnr"),
        save_pictures=False,
        device="cpu",
        progress=False,
    )


def results_of(folder: Path | str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(folder) / "results.json").read_text())
    return content


def test_each_checkpoint_and_choice_of_settings_has_a_folder_of_its_own(settings: EvaluationSettings) -> None:
    others = [
        settings,
        replace(settings, ckpt="b/weights.safetensors"),
        replace(settings, qualities=[1]),
        replace(settings, metrics={}),
        replace(settings, data=pictures("a/../pictures/")),  # the same as the first
        replace(settings, progress=False, strict=True, workers=2),  # likewise
    ]
    for each in others:
        run_evaluation(each, FakeCodec())
    found = sorted(Path("outputs/evaluation/folder").iterdir())
    assert [path.name.rpartition("-")[0] for path in found] == ["a_weights"] * 3 + ["b_weights"]
    assert {results_of(path)["checkpoint"] for path in found} == {"a/weights.safetensors", "b/weights.safetensors"}
    assert len({results_of(path)["weights_sha256"] for path in found}) == 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ckpt": "b/weights.safetensors"}, "other weights"),
        ({"qualities": [1], "limit": 1}, "another choice of qualities, limit"),
        ({"ckpt": "b/weights.safetensors", "metrics": {}}, "other weights and another choice of metrics"),
    ],
)
def test_a_folder_with_other_results_is_refused(
    settings: EvaluationSettings, change: dict[str, Any], what: str
) -> None:
    settings = replace(settings, out="out", baselines=baselines("jpeg"))
    run_evaluation(settings, FakeCodec())
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    with pytest.raises(EvaluationError, match=rf"^out holds results of {what}: give another out=FOLDER, or overwrite"):
        run_evaluation(replace(settings, **change), FakeCodec())
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    other = replace(settings, baselines={}, overwrite=True, **change)
    run_evaluation(other, FakeCodec())
    assert results_of("out")["checkpoint"] == other.ckpt
    assert not Path("out/baselines").exists(), "nothing of the first is left"
    Path("out/settings.json").unlink()  # as evaluations left it that wrote none
    with pytest.raises(EvaluationError, match="results of unknown settings"):
        run_evaluation(settings, FakeCodec())


def test_what_no_evaluation_wrote_is_never_replaced(settings: EvaluationSettings) -> None:
    Path("out/files").mkdir(parents=True)
    Path("out/files/mine").touch()
    with pytest.raises(EvaluationError, match="out holds files, which no evaluation wrote"):
        run_evaluation(replace(settings, out="out", overwrite=True), FakeCodec())
    assert Path("out/files/mine").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": pictures("out/decoded/mine")}, "data.test.root=out/decoded/mine"),
        ({"ckpt": None, "codec": {"folder": DECODED}, "bits": "out/results.csv"}, "bits=out/results.csv"),
    ],
)
def test_what_is_read_is_not_replaced_by_results(
    settings: EvaluationSettings, change: dict[str, Any], named: str
) -> None:
    run_evaluation(replace(settings, out="out"), FakeCodec())
    write_picture("out/decoded/mine/p0.png", render(64, 64))
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    with pytest.raises(EvaluationError, match=rf"^{named} lies where results go, and would be lost"):
        run_evaluation(replace(settings, out="out", overwrite=True, **change), FakeCodec())
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_decoded_pictures_do_not_become_originals(settings: EvaluationSettings) -> None:
    with pytest.raises(EvaluationError, match=r"lies in data\.test\.root=\., so that what is decoded"):
        run_evaluation(replace(settings, data=pictures(".")), FakeCodec())


def test_unreadable_pictures_are_told_before_the_work(
    settings: EvaluationSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pictures/p1.png").write_bytes(Path("pictures/p1.png").read_bytes()[:200])
    told: list[str] = []

    class Codec(FakeCodec):
        def compress(self, picture: np.ndarray, quality: int) -> bytes:
            told.append(capsys.readouterr().err)
            return super().compress(picture, quality)

    (results,) = run_evaluation(replace(settings, out="out"), Codec())
    assert [result.name for result in results.results] == ["p0", "p2"]
    assert told[0].startswith("left out: pictures/p1.png: not a readable picture")
    assert [each["name"] for each in results_of("out")["left_out"]] == ["p1.png"]
    assert "p1.png" in results_of("out")["left_out"][0]["reason"]
    assert "1 of 3 pictures were left out: p1.png." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strict": True}, r"^1 of 3 files cannot be read \(p1\.png\), the first: pictures/p1\.png: not a readable"),
        ({"data": pictures("pictures", name="kodak", expected=3)}, "pictures holds 2 pictures and kodak has 3"),
    ],
)
def test_unreadable_pictures_end_a_strict_evaluation(
    settings: EvaluationSettings, change: dict[str, Any], message: str
) -> None:
    Path("pictures/p1.png").write_text("no picture")
    with pytest.raises(EvaluationError, match=message):
        run_evaluation(replace(settings, **change), FakeCodec())
    assert not Path("outputs").exists()


def test_missing_columns_are_explained(settings: EvaluationSettings, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture("pictures/large.png", render(176, 180))
    run_evaluation(replace(settings, metrics=metrics("psnr", "ms_ssim"), out="out"), FakeCodec())
    note = "MS-SSIM of GLC is null for p0 q0, p1 q0, p2 q0, and in the means: it takes 176 pixels on each side."
    assert results_of("out")["notes"] == [note]
    assert note in capsys.readouterr().out


def test_names_need_not_be_utf8(settings: EvaluationSettings, capsys: pytest.CaptureFixture[str]) -> None:
    os.rename("pictures/p0.png", b"pictures/\xff.png")
    Path(os.fsdecode(b"pictures/\xfe.png")).touch()
    run_evaluation(replace(settings, out="out", metrics=metrics("psnr", "ms_ssim"), save_pictures=True), FakeCodec())
    assert "were left out: \\udcfe.png." in capsys.readouterr().out
    assert Path("out/pictures.png").exists()


class Diverged(ReportingCodec):
    """Estimates no rate for the second picture."""

    def compress_with_report(self, picture: np.ndarray, quality: int) -> FakeResult:
        result = super().compress_with_report(picture, quality)
        return replace(result, estimated_bits=math.nan) if len(picture) == 48 else result


def test_figures_that_are_not_finite_are_named(
    settings: EvaluationSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(self: PictureMetrics, original: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
        return {"psnr": math.inf if len(original) == 40 else 30.0, "lpips": math.nan}

    monkeypatch.setattr(PictureMetrics, "measure", measure)
    (results,) = run_evaluation(replace(settings, out="out"), Diverged())
    figures = results.means[0].figures
    assert (figures["psnr"], figures["lpips"], figures["estimated_bpp"]) == (None, None, None)
    assert figures["ideal_bpp"] is not None
    content = results_of("out")
    assert [p["psnr"] for p in content["codecs"]["GLC"]["pictures"]] == [None, 30.0, 30.0]
    assert content["notes"] == [
        "No LPIPS: it is not finite.",
        "PSNR of GLC is null for p0 q0, and in the means: it is not finite, as it is of equal pictures.",
        "estimate of GLC is null for p1 q0, and in the means: it is not finite.",
    ]
    assert "nan" not in Path("out/results.csv").read_text()
    assert content["metrics"]["lpips"]["reason"] == "it is not finite"
    missing = content["metrics"]["psnr"]["missing"]
    assert missing == [
        {"codec": "GLC", "reason": "it is not finite, as it is of equal pictures", "results": [["p0", 0]]}
    ]
    assert "No LPIPS: it is not finite." in capsys.readouterr().out


@pytest.fixture
def unwinding() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    interruption.unwind()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("unwinding")
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interrupted_evaluation_leaves_nothing_half_written(
    settings: EvaluationSettings, number: int, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = os.replace

    def interrupt(source: Any, target: Any) -> None:
        if str(target).endswith("p1.glc"):
            os.kill(os.getpid(), number)
        replaced(source, target)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(kind) as ended:
        run_evaluation(replace(settings, out="out"), FakeCodec())
    assert getattr(ended.value, "code", 143) == 143
    assert sorted(path.name for path in Path("out").rglob("*") if path.is_file()) == [
        ".lock",
        "p0.glc",
        "settings.json",
    ]
