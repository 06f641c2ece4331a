"""What README.md and docs/ say holds: commands run or at least parse, tables and links agree with the project.

A fenced block after the line `<!-- test -->` is run as it stands, in a copy of the checkout with an untrained tiny
codec as `outputs/demo/weights.safetensors`; `<!-- test: slow -->` the same among the slow tests.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from glc_train import load_codec, save_codec
from glc_train.backbones import BackboneError, find_backbone
from glc_train.cli import _parser
from glc_train.data import read_picture, render_picture, write_picture
from glc_train.weights import build_codec
from tests.import_rules import RULES

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    mark: str  # of the comment before the block; "" without one
    language: str
    text: str


BLOCKS = [
    Block(*found.groups(default=""))
    for found in re.finditer(r"(?:<!-- (test[^>]*) -->\n)?```(\w*)\n(.*?)```\n", README, flags=re.DOTALL)
]
COMMANDS = [
    command.strip()
    for block in BLOCKS
    if block.language == "bash"
    for line in block.text.splitlines()
    for command in line.split("   #")[0].split(" | ")
]


def marked(mark: str, language: str) -> list[Block]:
    found = [block for block in BLOCKS if block.mark == mark and block.language == language]
    assert found, f"README.md has no {language} block marked {mark!r}"
    return found


def commands_of(program: str) -> list[list[str]]:
    found = [shlex.split(line)[len(program.split()) :] for line in COMMANDS if line.startswith(program + " ")]
    assert found, f"README.md shows no command {program}"
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout after `make demo`, so that commands write nothing into the real one."""
    for name in ("train.py", "evaluate.py", "conf"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    config: Any = OmegaConf.to_container(OmegaConf.load(REPOSITORY / "conf/model/tiny.yaml"))
    save_codec(build_codec(config), config, tmp_path / "outputs/demo/weights.safetensors")
    return tmp_path


def run_in(folder: Path, script: str, **environment: str) -> str:
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | environment
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_python_examples_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    write_picture("photo.png", render_picture(64, 90, 1))
    for block in marked("test", "python"):
        exec(compile(block.text, "README.md", "exec"), {})
    assert read_picture("decoded.png").shape == (64, 90, 3)
    assert Path("half.safetensors").stat().st_size < 0.6 * Path("outputs/demo/weights.safetensors").stat().st_size
    assert load_codec("half.safetensors").quality_levels == 4


@pytest.mark.slow
def test_compressing_and_evaluating_run(checkout: Path) -> None:
    shown = [run_in(checkout, block.text) for block in marked("test: slow", "bash")]
    assert read_picture(checkout / "decoded.png").shape == (512, 512, 3)
    assert "photo.png -> photo.glc  512x512" in shown[0]
    (results,) = (checkout / "outputs/evaluation/packaged").glob("demo_weights-*/results.csv")
    assert "psnr" in results.read_text()


@pytest.mark.slow
def test_three_steps_of_training_run(checkout: Path) -> None:
    shared = Path(os.environ.get("GLC_SHARED") or REPOSITORY.parent / "shared") / "weights"
    folder = shared if shared.is_dir() else None
    try:
        find_backbone("alexnet", folder, download=False)
    except BackboneError as missing:
        pytest.skip(f"training needs the weights of LPIPS: {missing}")
    (block,) = marked("test: slow, training", "bash")
    run_in(checkout, block.text, **({"GLC_WEIGHTS": str(folder)} if folder else {}))
    assert load_codec(checkout / "outputs/three_steps/weights.safetensors").quality_levels == 4


@pytest.mark.parametrize("arguments", commands_of("glc"), ids=" ".join)
def test_every_glc_command_parses(arguments: list[str]) -> None:
    assert callable(_parser().parse_args(arguments).choose)


@pytest.mark.parametrize(
    ("folder", "name", "overrides"),
    [
        *(("conf", "train", each) for each in commands_of("python train.py")),
        *(("conf/evaluation", "evaluate", each) for each in commands_of("python evaluate.py")),
    ],
)
def test_every_training_and_evaluation_composes(folder: str, name: str, overrides: list[str]) -> None:
    with initialize_config_dir(str(REPOSITORY / folder), version_base="1.3"):
        config = compose(name, overrides=overrides)
    OmegaConf.resolve(config)
    assert not OmegaConf.missing_keys(config)


def test_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in commands_of("make"):
        assert re.search(rf"^{target[0]}:", makefile, flags=re.MULTILINE), target


def test_the_map_is_the_table_of_the_import_rules() -> None:
    rows = re.findall(r"^\| `([\w./]+)` \| .* \| (.*) \|$", README, flags=re.MULTILINE)
    drawn = {
        name.rstrip("/").removesuffix(".py"): set(re.findall(r"`(\w+)`", ours))
        for name, ours in rows
        if "/" in name or name.endswith(".py")
    }
    drawn["glc_train"] = drawn.pop("__init__")
    assert drawn == {unit: set(rule.ours) for unit, rule in RULES.items()}


@pytest.mark.parametrize("page", ["README.md", "docs/format.md"])
def test_what_a_page_names_exists(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    named = re.findall(r"`((?:glc_train|conf|tests|docs)/[\w/.]+)`", text)
    assert [name for name in (*links, *named) if not (REPOSITORY / name).exists()] == []


def test_models_have_the_size_that_is_said() -> None:
    sizes = dict(re.findall(r"`(\w+)` [^`]*?\((\d+\.\d) M(?: parameters)?\)", README))
    assert sizes.keys() == {path.stem for path in (REPOSITORY / "conf/model").glob("*.yaml")}
    for name, said in sizes.items():
        config: Any = OmegaConf.to_container(OmegaConf.load(REPOSITORY / f"conf/model/{name}.yaml"))
        assert f"{sum(p.numel() for p in build_codec(config).parameters()) / 1e6:.1f}" == said, name
