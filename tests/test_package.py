"""The package as strangers get it: source distribution and wheel, in environments that hold what they ask for alone."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from glc_train import __version__
from glc_train.data import render_picture
from glc_train.media import read_picture, write_picture
from tests.linked_environment import LinkedEnvironment
from tests.training_harness import tiny_image, tiny_overrides

pytestmark = pytest.mark.slow

NOT_COPIED = (".git", ".venv*", "outputs", "results", "tests", "docs", "build", "dist", "*.egg-info", ".*_cache")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def sdist(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "checkout"
    shutil.copytree(repository, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    subprocess.run([sys.executable, "-c", BUILD, folder.parent], cwd=folder, check=True, capture_output=True)
    (found,) = folder.parent.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Built from the source distribution, which must hold all that it takes."""
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(sdist.parent)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, sdist], check=True)
    (found,) = sdist.parent.glob("*.whl")
    return found


def asked_for(wheel: Path, *chosen: str) -> list[str]:
    """Requirements of the wheel with these extras, as its metadata has them."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (each for each in file.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = message_from_string(file.read(name).decode())
    found = [Requirement(each) for each in metadata.get_all("Requires-Dist", [])]
    ours = [each for each in found if each.name != "glc_train"]
    return [
        f"{each.name}{'[' + ','.join(each.extras) + ']' if each.extras else ''}"
        for each in ours
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in chosen)
    ]


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> LinkedEnvironment:
    environment = LinkedEnvironment(tmp_path_factory.mktemp("base") / "venv", asked_for(wheel))
    environment.install(wheel)
    return environment


def test_the_archives_hold_what_is_needed_and_no_more(sdist: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert wheel.name == f"glc_train-{__version__}-py3-none-any.whl"
    assert {name.partition("/")[0] for name in names} == {"glc_train", f"glc_train-{__version__}.dist-info"}
    for needed in (
        "py.typed",
        "data/__init__.pyi",
        "evaluation/baselines/table.yaml",
        "report/assets/page.html",
        "cli/demo/page.css",
    ):
        assert f"glc_train/{needed}" in names
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"train.py", "evaluate.py", "conf/train.yaml", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= inside


def test_three_commands_from_nothing_to_a_decoded_picture(base: LinkedEnvironment, tmp_path: Path) -> None:
    assert base.names.isdisjoint({"torchvision", "lightning", "wandb", "hydra-core", "matplotlib", "scipy"})
    write_picture(tmp_path / "photo.png", render_picture(64, 96, 1))  # the first command was to install
    for command in ("compress photo.png photo.glc", "decompress photo.glc decoded.png"):
        run = base.run("glc", *command.split(), cwd=tmp_path)
        assert run.returncode == 0, run.stderr
    assert read_picture(tmp_path / "decoded.png").shape == (64, 96, 3)
    for command in ("info photo.glc", "--help", "compress --help"):
        assert base.run("glc", *command.split(), cwd=tmp_path).returncode == 0


def test_python_needs_no_more_either(base: LinkedEnvironment, tmp_path: Path) -> None:
    script = "import glc_train, numpy as np; c = glc_train.load_codec(); x = np.zeros((64, 64, 3), np.uint8)"
    run = base.run("python", "-c", f"{script}; print(c.decompress(c.compress(x, 0)).shape)", cwd=tmp_path)
    assert run.stdout == "(64, 64, 3)\n", run.stderr


def test_a_command_without_its_extra_says_how_to_get_it(
    base: LinkedEnvironment, repository: Path, tmp_path: Path
) -> None:
    write_picture(tmp_path / "photo.png", render_picture(64, 64, 1))
    (tmp_path / "x.json").write_text("{}")
    commands = ("plot x.json", "report x.json", "compare photo.png", "fetch-weights", "data list")
    runs = [(base.run("glc", *command.split(), cwd=tmp_path), "glc: this command", "eval") for command in commands]
    runs.append((base.run("glc", "data", "shard", ".", "shards", cwd=tmp_path), "glc: this command", "train"))
    runs.append((base.run("glc", "demo", cwd=tmp_path), "glc: this command", "demo"))
    run = base.run("glc", "compress", "photo.png", "photo.glc", "--effort", "1", cwd=tmp_path)
    runs.append((run, "glc: --effort", "eval"))
    for name, extra in (("train.py", "train"), ("evaluate.py", "eval")):
        runs.append((base.run("python", "-P", repository / name, cwd=tmp_path), name, extra))
    for run, subject, extra in runs:
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1].startswith(f"{subject} needs "), run.stderr
        assert run.stderr.endswith(f": pip install 'glc_train[{extra}]'\n")
        assert "Traceback" not in run.stderr
    assert not (tmp_path / "photo.glc").exists()


def test_an_evaluation_and_its_plots_need_the_extra_eval_alone(wheel: Path, repository: Path, tmp_path: Path) -> None:
    environment = LinkedEnvironment(tmp_path / "venv", asked_for(wheel, "eval"))
    assert environment.names.isdisjoint({"lightning", "wandb", "tensorboard", "webdataset", "pytest"})
    environment.install(wheel)
    weights = tiny_image(tmp_path / "weights.safetensors")
    write_picture(tmp_path / "pictures/photo.png", render_picture(64, 96, 1))
    settings = [f"ckpt={weights}", "data=folder", "data.test.root=pictures", "metrics=[psnr]", "out=out", "qualities=0"]
    run = environment.run("python", "-P", repository / "evaluate.py", *settings, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for command in ("plot out", "report out", "data list"):
        run = environment.run("glc", *command.split(), cwd=tmp_path)
        assert run.returncode == 0, run.stderr


def test_a_training_needs_the_extra_train_alone(wheel: Path, repository: Path, tmp_path: Path) -> None:
    environment = LinkedEnvironment(tmp_path / "venv", asked_for(wheel, "eval", "train"))
    assert environment.names.isdisjoint({"pytest", "moto", "playwright", "optuna"})
    environment.install(wheel)
    for seed in range(2):
        write_picture(tmp_path / f"pictures/{seed}.png", render_picture(96, 96, seed))
    run = environment.run("glc", "data", "shard", "pictures", "shards", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    settings = ["recipe=autoencoder", *tiny_overrides(tmp_path / "out", 1, ["autoencoder"])]
    settings += ["stages.autoencoder.picture.lpips=0"]
    run = environment.run("python", "-P", repository / "train.py", *settings, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
