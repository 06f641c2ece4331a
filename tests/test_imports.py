"""Holds every source to the project's structure; the rules are in `tests/import_rules.py`."""

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tests.import_rules import RULES, import_violations, size_violations, unit_of, unsafe_load_violations

# Assembled, so that this file does not contain what it forbids: folders of one machine, hosts of package registries.
MACHINE = "/".join(["", "work", ""])
REGISTRIES = [
    ".".join(host) for host in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("debian", "org"))
]
FORBIDDEN = re.compile("|".join([rf"(?<![\w.~-]){MACHINE}", *map(re.escape, REGISTRIES)]))


@pytest.fixture(scope="module")
def files(repository: Path) -> list[Path]:
    """Files of the project, relative to the checkout: those that git tracks or would add."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("needs a git checkout to know which files are the project's")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (repository / name).is_file()]


@pytest.fixture(scope="module")
def sources(repository: Path, files: list[Path]) -> dict[PurePosixPath, str]:
    """Text of every Python file of the project."""
    return {
        PurePosixPath(path.as_posix()): (repository / path).read_text(encoding="utf-8")
        for path in files
        if path.suffix == ".py"
    }


def test_imports_follow_the_table(sources: dict[PurePosixPath, str]) -> None:
    package = {path: source for path, source in sources.items() if path.parts[0] == "glc_train"}
    assert package, "no source of the package found"
    assert [line for path, source in package.items() for line in import_violations(path, source)] == []


def test_every_folder_of_the_package_has_an_init(sources: dict[PurePosixPath, str]) -> None:
    folders = {path.parent for path in sources if path.parts[0] == "glc_train"}
    assert [str(folder) for folder in sorted(folders) if folder / "__init__.py" not in sources] == []


def test_torch_load_never_runs_code_from_a_file(sources: dict[PurePosixPath, str]) -> None:
    assert [line for path, source in sources.items() for line in unsafe_load_violations(path, source)] == []


def test_files_functions_and_constructors_stay_small(sources: dict[PurePosixPath, str]) -> None:
    assert [line for path, source in sources.items() for line in size_violations(path, source)] == []


def test_no_file_names_a_machine_or_a_registry(repository: Path, files: list[Path]) -> None:
    found = []
    for path in files:
        content = (repository / path).read_bytes()
        if b"\0" in content:
            continue  # a picture or another binary file
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            if FORBIDDEN.search(line):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("glc_train/layers/blocks.py", "from glc_train.losses import Rate"),
        ("glc_train/layers/blocks.py", "import glc_train.losses.rate as rate"),
        ("glc_train/layers/blocks.py", "from glc_train import losses"),
        ("glc_train/layers/blocks.py", "from .. import losses"),
        ("glc_train/layers/blocks.py", "from ..losses import Rate"),
        ("glc_train/layers/__init__.py", "from ..losses.rate import Rate"),
        ("glc_train/layers/blocks.py", "def f():\n    from glc_train.losses import Rate"),
        ("glc_train/layers/blocks.py", "import importlib\nimportlib.import_module('glc_train.losses')"),
        ("glc_train/codecs/image.py", "if TYPE_CHECKING:\n    from glc_train.training import Module"),
        ("glc_train/autoencoder/encoder.py", "from glc_train.transform import Analysis"),
        ("glc_train/transform/analysis.py", "import lightning.pytorch as pl"),
        ("glc_train/transform/analysis.py", "from hydra.utils import instantiate"),
        ("glc_train/bitstream/coder.py", "import torch.nn as nn"),
        ("glc_train/training/stage1.py", "from glc_train.evaluation import measure"),
        ("glc_train/training/stage1.py", "from glc_train.bitstream import encode"),
        ("glc_train/evaluation/measure.py", "from glc_train.losses import Rate"),
        ("glc_train/metrics/lpips.py", "from glc_train import load_codec"),
        ("glc_train/backbones.py", "from .metrics import LPIPS"),
        ("glc_train/novel/thing.py", "import torch"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert len(import_violations(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("glc_train/codecs/image.py", "from glc_train.transform import Analysis\nfrom ..bitstream import encode"),
        (
            "glc_train/codecs/image.py",
            "from .padding import pad\nfrom . import gop\nimport glc_train.codecs.video",
        ),
        ("glc_train/bitstream/coder.py", "import struct\nimport numpy as np\nimport constriction"),
        ("glc_train/training/stage1.py", "import lightning as L\nfrom glc_train.weights import load_codec"),
        ("glc_train/evaluation/measure.py", "from glc_train import load_codec"),
        ("glc_train/__init__.py", "from .weights import load_codec"),
        ("glc_train/metrics/lpips.py", "from glc_train.backbones import alexnet"),
    ],
)
def test_a_permitted_import_is_left_alone(path: str, source: str) -> None:
    assert import_violations(PurePosixPath(path), source) == []


def test_the_table_has_no_cycle() -> None:
    def reach(unit: str) -> set[str]:
        return set(RULES[unit].ours).union(*(reach(other) for other in RULES[unit].ours))

    for unit in RULES:
        assert RULES[unit].ours <= RULES.keys()
        assert unit not in reach(unit)


def test_units_are_folders_modules_and_the_package_itself() -> None:
    assert unit_of(PurePosixPath("glc_train/layers/blocks/conv.py")) == "layers"
    assert unit_of(PurePosixPath("glc_train/weights/__init__.py")) == "weights"
    assert unit_of(PurePosixPath("glc_train/__init__.py")) == "glc_train"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import torch\ntorch.load(f)", 1),
        ("import torch\ntorch.load(f, weights_only=False)", 1),
        ("from torch import load as fetch\nfetch(f)", 1),
        ("import torch\ntorch.load(f, map_location='cpu', weights_only=True)", 0),
        ("import json\njson.load(f)", 0),
    ],
)
def test_an_unsafe_load_is_found(source: str, count: int) -> None:
    assert len(unsafe_load_violations(PurePosixPath("glc_train/weights/__init__.py"), source)) == count


@pytest.mark.parametrize(
    ("path", "source", "count"),
    [
        ("glc_train/a.py", "x = 1\n" * 401, 1),
        ("glc_train/a.py", "x = 1\n" * 400, 0),
        ("train.py", "x = 1\n" * 61, 1),
        ("glc_train/a.py", "def f():\n" + "    x = 1\n" * 60, 1),
        ("glc_train/a.py", "def f():\n" + "    x = 1\n" * 59, 0),
        ("glc_train/a.py", f"def __init__(self, {', '.join(f'a{i}' for i in range(13))}): ...", 1),
        ("glc_train/a.py", f"def __init__(self, {', '.join(f'a{i}' for i in range(12))}): ...", 0),
    ],
)
def test_an_oversized_source_is_found(path: str, source: str, count: int) -> None:
    assert len(size_violations(PurePosixPath(path), source)) == count


@pytest.mark.parametrize("text", [f"see {MACHINE}x", *(f"https://files.{host}/simple" for host in REGISTRIES)])
def test_a_forbidden_word_is_found(text: str) -> None:
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("text", ["tests/network/x", "~/work/x", "artwork/"])
def test_an_innocent_word_is_left_alone(text: str) -> None:
    assert not FORBIDDEN.search(text)
