"""`evaluate.py` as it is started: parts of one's own, sweeps, help, and what is wrong on the command line."""

import csv
import json
import logging
import re
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from glc_train.files import sha256_of
from glc_train.media import write_picture
from glc_train.training import TrainingError
from glc_train.training.options import check_options
from tests.metrics.rendered import render
from tests.training_harness import tiny_image


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
        ("evaluate.py", "metrics=[psnr,lpip]", "metrics=lpip: there is none; perhaps lpips is meant."),
        ("evaluate.py", "data=folder", "The folder of folder is not known: give data.test.root=FOLDER."),
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


def evaluate(repository: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "device=cpu", "dtype=float32", "progress=false"])
    runpy.run_path(str(repository / "evaluate.py"), run_name="__main__")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_parts_of_ones_own_are_measured(repository: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of docs/evaluate.md."""
    (example,) = re.findall(r"```python\n(.*?)```", (repository / "docs/evaluate.md").read_text(), flags=re.DOTALL)
    (in_folder / "mine.py").write_text(example)
    monkeypatch.syspath_prepend(in_folder)
    for name in ("a", "b"):
        write_picture(in_folder / f"pictures/{name}.png", render(64, 80))
    (in_folder / "list.txt").write_text("pictures/b.png\n")
    evaluate(
        repository, monkeypatch, f"ckpt={tiny_image(in_folder / 'tiny.safetensors')}", "out=out", "qualities=0",
        "metrics=psnr", "+metrics.edges._target_=mine.edges", "+metrics.edges._partial_=true",
        "+metrics.ssim._target_=torchmetrics.image.StructuralSimilarityIndexMeasure", "+metrics.ssim.data_range=1.0",
        "baselines=[x264]", "+baselines.png._target_=mine.PNG", "data.test._target_=mine.Listed",
        "data.test.root=list.txt", "~data.test.packaged", "data.test.expected=null",
    )  # fmt: skip
    found = rows(in_folder / "out")
    assert [(row["codec"], row["picture"]) for row in found] == [(codec, "b") for codec in ("GLC", "x264", "png")]
    assert list(found[0])[-6:] == ["psnr", "ms_ssim", "lpips", "dists", "edges", "ssim"]
    assert all(0 < float(row["edges"]) < 1 and -1 < float(row["ssim"]) < 1 for row in found[:2])
    assert float(found[2]["edges"]) == 0
    assert float(found[2]["ssim"]) == pytest.approx(1)
    content = json.loads((in_folder / "out/results.json").read_text())
    assert content["codecs"]["GLC"]["means"][0]["edges"] == float(found[0]["edges"])
    own = {"target": "mine.edges", "package": None, "version": sha256_of("mine.py"), "weights_sha256": None}
    assert content["metrics"]["edges"].items() >= own.items()
    assert content["metrics"]["ssim"]["package"] == "torchmetrics"


@pytest.mark.parametrize("out", [None, "results"])
def test_a_sweep_keeps_the_results_of_each_checkpoint(
    out: str | None, repository: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(in_folder / "pictures/a.png", render(64, 80))
    for name in ("one", "two"):
        (in_folder / name).mkdir()
        tiny_image(in_folder / name / "weights.safetensors")
    given = [] if out is None else [f"out={out}"]
    evaluate(
        repository, monkeypatch, "-m", "ckpt=one/weights.safetensors,two/weights.safetensors", "qualities=0",
        "metrics=psnr", "data=folder", "data.test.root=pictures", "save_pictures=false", *given,
    )  # fmt: skip
    folders = sorted((in_folder / (out or "outputs/evaluation/folder")).glob("*/results.json"))
    assert [json.loads(file.read_text())["checkpoint"].split("/")[0] for file in folders] == ["one", "two"]
    if out is None:
        assert [file.parent.name.rpartition("-")[0] for file in folders] == ["one_weights", "two_weights"]


def test_the_command_line_names_codecs_and_ones_own(
    repository: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(in_folder / "pictures/a.png", render(64, 80))
    common = ("data=folder", "data.test.root=pictures", "metrics=psnr", "rates=2", "save_pictures=false")
    evaluate(repository, monkeypatch, "codec=webp_half", "baselines=[x265]", *common)
    own = {"_target_": "glc_train.evaluation.PillowCodec", "format": "PNG", "suffix": ".png", "settings": "[1,9]"}
    evaluate(repository, monkeypatch, *(f"+codec.mine.{name}={value}" for name, value in own.items()), *common)
    folders = {path.name.rpartition("-")[0]: path for path in Path("outputs/evaluation/folder").iterdir()}
    assert sorted(folders) == ["mine", "webp_half"]
    assert (folders["webp_half"] / "baselines/x265/files/q0/a.hevc").is_file()
    for wrong, sentence in {
        "codec=webp_halv": "codec=webp_halv: there is none; perhaps webp_half is meant.\n",
        "baselines=[vtm]": "baselines=vtm: there is none; choose among av1, av1_half, av1_quarter, avif, ",
    }.items():
        capsys.readouterr()
        with pytest.raises(SystemExit):
            evaluate(repository, monkeypatch, wrong)
        assert capsys.readouterr().err.startswith(sentence)


def test_help_is_short(
    repository: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(repository / "evaluate.py"), run_name="__main__")
    assert ended.value.code == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < 40
    assert max(map(len, shown)) <= 120
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        options = compose("evaluate")
    told = set(re.findall(r"\w+", "\n".join(shown)))
    assert options.keys() <= told


@pytest.mark.parametrize("name", ["folder", "packaged", "demo", "rendered", "clips", "clips_rendered"])
def test_data_is_the_same_word_in_both_programs(repository: Path, tmp_path: Path, name: str) -> None:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        training = compose("train", [f"data={name}"])
        evaluation = compose("evaluate", [f"data={name}"])
    assert training.data == evaluation.data
    assert {"train", "val", "test"} <= training.data.keys()


@pytest.mark.parametrize("name", ["kodak", "clic2020", "div2k"])
def test_nothing_is_trained_on_what_is_only_evaluated(repository: Path, name: str) -> None:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose("train", [f"data={name}"])
    with pytest.raises(TrainingError, match=r"^data\.train has no value"):
        check_options(config)
