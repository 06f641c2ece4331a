"""The extras of pyproject.toml: what each brings, and what is said where it is missing."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from glc_train import __version__, cli, extras
from tests.linked_environment import closure, installed_here


def declared(repository: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


@pytest.mark.parametrize("extra", extras.PACKAGES)
def test_the_modules_of_an_extra_are_its_packages(extra: str, repository: Path) -> None:
    wanted = [Requirement(each) for each in declared(repository)["optional-dependencies"][extra]]
    names = {canonicalize_name(each.name) for each in wanted} - {"glc-train"}
    owners = packages_distributions()
    assert {canonicalize_name(owners[module][0]) for module in extras.PACKAGES[extra]} == names


def test_what_a_missing_package_costs_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "lpips" else object())
    for command in ("plot x", "report x", "compare x", "fetch-weights", "data list", "data verify x"):
        assert cli.main(command.split()) == 1
        assert capsys.readouterr().err == "glc: this command needs lpips: pip install 'glc_train[eval]'\n"
    assert cli.main(["data", "shard", "x", "y"]) == 1
    assert capsys.readouterr().err == "glc: this command needs lpips: pip install 'glc_train[train]'\n"
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "glc: this command needs lpips: pip install 'glc_train[demo]'\n"
    with pytest.raises(extras.MissingExtra, match=r"^--effort needs lpips: pip install 'glc_train\[eval\]'$"):
        extras.require("eval", "--effort")


@pytest.mark.parametrize(("name", "extra"), [("train.py", "train"), ("evaluate.py", "eval")])
def test_programs_say_it_before_they_import_anything(name: str, extra: str, repository: Path) -> None:
    script = f"""
import runpy, sys
from glc_train import extras
extras.find_spec = lambda name: None if name in ("hydra", "lpips") else object()
sys.argv = [{name!r}]
runpy.run_path({str(repository / name)!r}, run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == f"{name} needs hydra, lpips: pip install 'glc_train[{extra}]'\n"


def locked(repository: Path) -> tuple[set[NormalizedName], set[NormalizedName]]:
    """Names of the packages in requirements.lock: those that an installation without CUDA has, and the others."""
    (pattern,) = re.findall(r"^CUDA := (.*)$", (repository / "Makefile").read_text(), flags=re.MULTILINE)
    lock = (repository / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^[\w.-]+==.*$", lock, flags=re.MULTILINE)
    names = {each: canonicalize_name(each.partition("==")[0]) for each in pinned}
    left_out = {name for each, name in names.items() if re.match(pattern, each)}
    return set(names.values()) - left_out, left_out


def test_only_pytorch_misses_what_an_installation_without_cuda_leaves_out(repository: Path) -> None:
    kept, left_out = locked(repository)
    assert {"triton", "nvidia-cublas", "cuda-toolkit"} <= left_out
    asking = set()
    for name in kept:
        wanted = map(Requirement, requires(name) or [])
        plain = (each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""}))
        asking |= {name} if left_out & {canonicalize_name(each.name) for each in plain} else set()
    assert asking == {"torch"}


def test_the_lock_holds_what_the_development_environment_needs_and_nothing_else(repository: Path) -> None:
    project, (kept, left_out) = declared(repository), locked(repository)
    locked_extras = [own for extra, own in project["optional-dependencies"].items() if extra != "compressai"]
    asked = [each for own in (project["dependencies"], *locked_extras) for each in own]
    outside = [each for each in asked if Requirement(each).name != "glc_train"]
    assert closure(outside, installed_here()) - left_out == kept


def test_the_citation_names_this_version(repository: Path) -> None:
    assert f"\nversion: {__version__}\n" in (repository / "CITATION.cff").read_text(encoding="utf-8")
