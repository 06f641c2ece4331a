"""What README.md and docs/ say holds: commands parse or compose, tables and links agree with the project."""

import os
import re
import shlex
from pathlib import Path
from pkgutil import resolve_name

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.distributed.run import get_args_parser

import glc_train.evaluation  # noqa: F401 - Hydra then knows the codecs by name
from benchmarks.measures import model_config
from benchmarks.results import with_tables
from glc_train.cli import _parser
from glc_train.weights import build_codec
from tests.import_rules import RULES
from tests.pages import BLOCKS, PAGES, REPOSITORY, commands_of, jobs_of

EXPERIMENTS = sorted((REPOSITORY / "conf/experiment").glob("*.yaml"))


def check_composition(folder: str, name: str, overrides: list[str]) -> None:
    for job in jobs_of(overrides):
        with initialize_config_dir(str(REPOSITORY / folder), version_base="1.3"):
            config = compose(name, overrides=job)
        if name == "evaluate":  # which takes nothing else of the data
            config.data = {"test": config.data.test}
        OmegaConf.resolve(config)
        assert not OmegaConf.missing_keys(config)


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
    for link, anchor in re.findall(r"\]\((?!https?:|\.\./\.\./actions/)([^)#]*)#?([^)]*)\)", PAGES[page]):
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
