"""The demo: what it must reach, what it says where it does not, and a shortened one as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from glc_train import demo, load_codec
from glc_train.backbones import BackboneError, find_backbone
from glc_train.media import read_picture
from glc_train.training.options import check_options

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GLC_SHARED") or ROOT.parent / "shared") / "weights"


def coded(lpips: float) -> list[demo.Coded]:
    return [demo.Coded("slide", 0, 100, 0.02, np.zeros((8, 8, 3), np.uint8), 20.0, lpips)]


def test_a_green_field_is_not_called_done() -> None:
    with pytest.raises(demo.DemoError, match=r"LPIPS 1\.000 on the photographs"):
        demo.check_photographs(coded(1.0))
    demo.check_photographs(coded(0.25))


def test_training_that_brings_nothing_is_not_called_done() -> None:
    with pytest.raises(demo.DemoError, match=r"from 0\.300 to 0\.295"):
        demo.check_training(coded(0.300), coded(0.295))
    demo.check_training(coded(0.300), coded(0.27))


def test_a_failure_is_one_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise demo.DemoError("the codec is worse than it must be.")

    monkeypatch.setattr(demo, "run", fails)
    assert demo.main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "The demo failed: the codec is worse than it must be.\n"


def test_a_mistake_in_the_program_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(demo, "run", fails)
    with pytest.raises(RuntimeError):
        demo.main(["--out", str(tmp_path)])


def test_training_takes_any_folder_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(config: DictConfig, callbacks: object) -> Path:
        check_options(config)
        assert Path(config.init_from).is_file()
        assert (config.data.train.root, config.data.val) == (str(tmp_path / "a=1, b"), str(tmp_path / "[c]"))
        assert config.stages.joint.steps == 7
        return Path(config.out)

    monkeypatch.setattr(demo, "run_recipe", check)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out={x}"
    assert demo.train_on(tmp_path / "a=1, b", tmp_path / "[c]", out, 7, lambda _: None) == out


@pytest.mark.slow
def test_a_shortened_demo(tmp_path: Path) -> None:
    folder = SHARED if SHARED.is_dir() else None
    try:
        find_backbone("alexnet", folder, download=False)
    except BackboneError as missing:
        pytest.skip(f"the demo needs the weights of LPIPS: {missing}")
    command = [sys.executable, "-m", "glc_train.demo", "--out", str(tmp_path), "--steps", "40"]
    variables = os.environ | ({"GLC_WEIGHTS": str(folder)} if folder else {})
    run = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == f"done: look at {tmp_path / 'photographs.png'} and {tmp_path / 'slide.png'}"
    assert load_codec(tmp_path / "weights.safetensors").quality_levels == 4
    height, width = read_picture(tmp_path / "slide.png").shape[:2]
    assert height > 2 * 512
    assert width > 3 * 256
    assert read_picture(tmp_path / "photographs.png").std() > 30, "pictures, not an empty sheet"
