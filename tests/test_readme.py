"""What README.md and docs/ say holds: commands run or at least parse, tables and links agree with the project.

A fenced block after the line `<!-- test, makes FILE ... -->` is run as it stands, in a copy of the checkout with an
untrained tiny codec as `outputs/demo/weights.safetensors`, a small `photo.png` and a `FOLDER` of small JPEGs; the files
named (patterns) must then exist and open. `<!-- test: slow, makes ... -->` is the same among the slow tests,
`<!-- test: slow, training, makes ... -->` where the weights of LPIPS are at hand.
"""

import csv
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from torch.distributed.run import get_args_parser

import glc_train.evaluation  # noqa: F401 - Hydra then knows the codecs by name
from benchmarks.measures import model_config
from benchmarks.results import with_tables
from glc_train import load_codec, save_codec
from glc_train.backbones import BackboneError, find_backbone
from glc_train.cli import _parser
from glc_train.data import render_picture
from glc_train.media import read_picture, write_picture
from glc_train.weights import build_codec
from tests.import_rules import RULES

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENTS = sorted((REPOSITORY / "conf/experiment").glob("*.yaml"))
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted(REPOSITORY.glob("docs/**/*.md")),
        REPOSITORY / "benchmarks/README.md",
    ]
}
MARK = re.compile(r"test(?:: (slow(?:, training)?))?, makes (.+)")


@dataclass(frozen=True)
class Block:
    page: str
    mark: str  # of the comment before the block; "" without one
    language: str
    text: str

    @property
    def kind(self) -> str | None:
        """Of a block that is run: "", "slow" or "slow, training"."""
        found = MARK.fullmatch(self.mark)
        return None if found is None else found[1] or ""


BLOCKS = [
    Block(page, *found.groups(default=""))
    for page, text in PAGES.items()
    for found in re.finditer(r"(?:<!-- ([^>]*) -->\n)?```(\w*)\n(.*?)```\n", text, flags=re.DOTALL)
]
COMMANDS = [
    (block.page, command.strip())
    for block in BLOCKS
    if block.language == "bash"
    for line in block.text.replace("\\\n", " ").splitlines()
    for command in re.split(r" \| |&& ", re.sub(r"\s+#.*", "", line))
]


def marked(kind: str, language: str) -> list[Any]:
    found = [block for block in BLOCKS if block.kind == kind and block.language == language]
    assert found, f"no page has a {language} block of this kind: {kind!r}"
    return [pytest.param(block, id=f"{block.page}-{number}") for number, block in enumerate(found)]


def commands_of(program: str) -> list[Any]:
    """Arguments of each command on the pages."""
    found = [(page, line[len(program) + 1 :]) for page, line in COMMANDS if line.startswith(program + " ")]
    assert found, f"no page shows a command {program}"
    return [pytest.param(shlex.split(line), id=f"{page}: {line}") for page, line in found]


def jobs_of(overrides: list[str]) -> list[list[str]]:
    """Overrides of each job of a sweep (`-m`)."""
    if "-m" not in overrides:
        return [overrides]
    parsed = OverridesParser.create().parse_overrides([each for each in overrides if each != "-m"])
    values = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [str(each.input_line)]
        for each in parsed
    ]
    return [list(job) for job in product(*values)]


def check_composition(folder: str, name: str, overrides: list[str]) -> None:
    for job in jobs_of(overrides):
        with initialize_config_dir(str(REPOSITORY / folder), version_base="1.3"):
            config = compose(name, overrides=job)
        if name == "evaluate":  # which takes nothing else of the data
            config.data = {"test": config.data.test}
        OmegaConf.resolve(config)
        assert not OmegaConf.missing_keys(config)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout after `make demo`, so that commands write nothing into the real one."""
    for name in ("train.py", "evaluate.py", "conf"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    config = model_config()
    save_codec(build_codec(config), config, tmp_path / "outputs/demo/weights.safetensors")
    write_picture(tmp_path / "photo.png", render_picture(64, 90, 1))
    for number in range(8):
        write_picture(tmp_path / f"FOLDER/{number}.jpg", render_picture(64, 90, number))
    return tmp_path


def run_in(folder: Path, script: str, **environment: str) -> None:
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


def check_made(folder: Path, block: Block) -> None:
    """Whether each file that the block's mark names is there, once, and can be read."""
    found = MARK.fullmatch(block.mark)
    assert found
    for pattern in found[2].split():
        (path,) = folder.glob(pattern)
        match path.suffix:
            case ".png":
                assert read_picture(path).shape == read_picture(folder / "photo.png").shape
            case ".safetensors":
                assert load_codec(path).quality_levels == 4
            case ".csv":
                with path.open(newline="") as file:
                    assert "psnr" in next(iter(csv.DictReader(file)))
            case other:
                pytest.fail(f"{block.page}: say here how files {other} are checked")


def test_marks_are_known() -> None:
    strange = [block for block in BLOCKS if block.mark and block.kind is None]
    assert strange == []


@pytest.mark.parametrize("block", marked("", "python"))
def test_python_examples_run(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    exec(compile(block.text, block.page, "exec"), {})
    check_made(checkout, block)


@pytest.mark.slow
@pytest.mark.parametrize("block", marked("slow", "bash"))
def test_commands_run(block: Block, checkout: Path) -> None:
    run_in(checkout, block.text)
    check_made(checkout, block)


@pytest.mark.slow
@pytest.mark.parametrize("block", marked("slow, training", "bash"))
def test_trainings_run(block: Block, checkout: Path) -> None:
    shared = Path(os.environ.get("GLC_SHARED") or REPOSITORY.parent / "shared") / "weights"
    folder = shared if shared.is_dir() else None
    try:
        find_backbone("alexnet", folder, download=False)
    except BackboneError as missing:
        pytest.skip(f"training needs the weights of LPIPS: {missing}")
    run_in(checkout, block.text, **({"GLC_WEIGHTS": str(folder)} if folder else {}))
    check_made(checkout, block)


@pytest.mark.parametrize("arguments", commands_of("glc"))
def test_every_glc_command_parses(arguments: list[str]) -> None:
    assert callable(resolve_name(_parser().parse_args(arguments).does))


@pytest.mark.parametrize("overrides", commands_of("python train.py"))
def test_every_training_composes(overrides: list[str]) -> None:
    check_composition("conf", "train", overrides)


@pytest.mark.parametrize("overrides", commands_of("srun python train.py"))
def test_every_training_with_slurm_composes(overrides: list[str]) -> None:
    check_composition("conf", "train", overrides)
    (script,) = [block.text for block in BLOCKS if "#SBATCH" in block.text]
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\d+)$", script, flags=re.MULTILINE))
    assert f"trainer.num_nodes={asked['nodes']}" in overrides
    assert f"trainer.devices={asked['ntasks-per-node']}" in overrides  # Lightning refuses other numbers
    assert asked["gpus-per-node"] == asked["ntasks-per-node"]


@pytest.mark.parametrize("arguments", commands_of("torchrun"))
def test_every_training_with_torchrun_composes(arguments: list[str]) -> None:
    parsed = get_args_parser().parse_args(arguments)
    assert parsed.training_script == "train.py"
    check_composition("conf", "train", parsed.training_script_args)
    assert f"trainer.num_nodes={parsed.nnodes}" in arguments
    assert f"trainer.devices={parsed.nproc_per_node}" in arguments


@pytest.mark.parametrize("overrides", commands_of("python evaluate.py"))
def test_every_evaluation_composes(overrides: list[str]) -> None:
    check_composition("conf", "evaluate", overrides)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_command_in_the_head_of_an_experiment_composes(path: Path) -> None:
    command = path.read_text(encoding="utf-8").splitlines()[1]
    assert command.startswith("# python train.py ")
    check_composition("conf", "train", shlex.split(command)[3:])


@pytest.mark.parametrize("arguments", commands_of("python -m"))
def test_every_module_that_is_run_exists(arguments: list[str]) -> None:
    if arguments[0] != "pip":
        path = REPOSITORY / arguments[0].replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@pytest.mark.parametrize("arguments", commands_of("make"))
def test_make_targets_exist(arguments: list[str]) -> None:
    assert re.search(rf"^{arguments[0]}:", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_map_is_the_table_of_the_import_rules() -> None:
    rows = re.findall(r"^\| `([\w./]+)` \| .* \| (.*) \|$", PAGES["docs/architecture.md"], flags=re.MULTILINE)
    drawn = {
        name.rstrip("/").removesuffix(".py"): set(re.findall(r"`(\w+)`", ours))
        for name, ours in rows
        if "/" in name or name.endswith(".py")
    }
    drawn["glc_train"] = drawn.pop("__init__")
    assert drawn == {unit: set(rule.ours) for unit, rule in RULES.items()}


def anchors(page: Path) -> set[str]:
    """Names of the page's headings, as a web page of it has them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    folder = (REPOSITORY / page).parent
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", PAGES[page]):
        target = folder / link if link else REPOSITORY / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"
    named = re.findall(r"`((?:glc_train|conf|tests|docs|results|benchmarks)/[\w/.]+)`", PAGES[page])
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_every_page_can_be_reached_from_the_first() -> None:
    reached, new = set[str](), {"README.md"}
    while new:
        reached |= new
        links = {
            os.path.normpath(Path(page).parent / link)
            for page in new
            for link in re.findall(r"\]\((?!https?:)([^)#]+\.md)[^)]*\)", PAGES[page])
        }
        new = (links & PAGES.keys()) - reached
    assert reached == PAGES.keys()


def test_the_first_page_is_short() -> None:
    assert len(PAGES["README.md"].split()) <= 900


@pytest.mark.parametrize("page", ["README.md", "docs/model-cards/glc_image_small.md"])
def test_the_table_of_results_has_the_figures_of_the_evaluation(page: str) -> None:
    assert with_tables(PAGES[page]) == PAGES[page], "make results writes the tables"
    assert with_tables(PAGES[page].replace("| 0 | 0.0", "| 0 | 9.9")) == PAGES[page]


def test_experiments_are_listed_and_say_whether_they_were_run() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGES["docs/experiments.md"], flags=re.MULTILINE)
    listed = dict(rows)
    assert len(listed) == len(rows)
    assert {name: said.startswith("yes") for name, said in listed.items()} == {
        path.stem: "# Result: not yet run." not in path.read_text(encoding="utf-8") for path in EXPERIMENTS
    }


def test_models_have_the_size_that_is_said() -> None:
    sizes = dict(re.findall(r"`(\w+)`\s[^`]*?\((\d+\.\d) M(?: parameters)?\)", PAGES["docs/train.md"]))
    assert sizes.keys() == {path.stem for path in (REPOSITORY / "conf/model").glob("*.yaml")}
    for name, said in sizes.items():
        config = model_config(name)
        assert f"{sum(p.numel() for p in build_codec(config).parameters()) / 1e6:.1f}" == said, name
