"""Virtual environments that hold some packages of this one, as links: made in a second, whatever their size."""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class LinkedEnvironment:
    """A virtual environment in `folder` with the packages that `requirements` ask for, and theirs, and no other."""

    def __init__(self, folder: Path, requirements: Iterable[str]) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.folder = folder
        (self.site,) = folder.glob("lib/python*/site-packages")
        installed = installed_here()
        self.names = closure(requirements, installed)
        _link(self.site, {name: installed[name] for name in self.names}, installed)

    def install(self, wheel: Path) -> None:
        """Installs a wheel and checks that what it asks for is there."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder / "bin/python")]
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
        subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)

    def run(self, program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, with nothing of this one's in reach."""
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        variables = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def installed_here() -> dict[str, Distribution]:
    """The distributions of this environment by their names."""
    return {canonicalize_name(each.name): each for each in distributions()}


def closure(requirements: Iterable[str], installed: Mapping[str, Distribution]) -> set[str]:
    """Names of the distributions that the requirements ask for, directly or through others that are installed."""
    found, waiting = set[tuple[str, frozenset[str]]](), [Requirement(each) for each in requirements]
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in found:
            continue
        found.add(key)
        for text in (installed[key[0]].requires or []) if key[0] in installed else []:
            asked = Requirement(text)
            extras = ("", *wanted.extras)
            if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(asked)
    return {name for name, _ in found}


def _link(site: Path, chosen: Mapping[str, Distribution], installed: Mapping[str, Distribution]) -> None:
    """Links the files of the chosen; a folder as a whole where no other distribution has files in it."""
    owners = defaultdict[PurePosixPath, set[str]](set)
    for name, distribution in installed.items():
        for file in distribution.files or []:
            for path in (file, *file.parents):
                owners[PurePosixPath(path)].add(name)
    for distribution in chosen.values():
        for file in distribution.files or []:
            if ".." in file.parts:  # programs
                continue
            for path in (*reversed(file.parents[:-1]), file):
                link = site / path
                if link.is_symlink():
                    break
                if path == file or owners[PurePosixPath(path)] <= chosen.keys():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(Path(str(distribution.locate_file(path))).resolve())
                    break
