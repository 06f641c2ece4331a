"""Where a result comes from: commit, hardware, command."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


def commit() -> str | None:
    """Commit of the checkout that this package lies in, `-dirty` where files differ; `None` outside of git."""
    folder = Path(__file__).resolve().parents[1]
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None


@functools.cache
def program_sha256() -> str:
    """SHA-256 that stands for the sources of this package, whether they are in a commit or not."""
    folder, total = Path(__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def command() -> str:
    """The command line of this process."""
    program = sys.argv[0]
    # `python -m a.b` leaves the module's file in argv; the names of folders above it concern nobody.
    name = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
    return shlex.join(["python", *(["-m", name] if name else [Path(program).name]), *sys.argv[1:]])


def hardware(device: str = "cpu") -> str:
    """The device, in words: the GPU's name where `device` is "cuda", else the processor, its cores and threads."""
    import torch  # takes seconds, which who reads results does not need

    if torch.device(device).type == "cuda":
        return f"{torch.cuda.device_count()}x {torch.cuda.get_device_name(torch.device(device))}"
    names = [platform.processor() or platform.machine()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or names
    except OSError:
        pass  # not Linux
    counts = {"core": os.cpu_count() or 1, "thread": torch.get_num_threads()}
    words = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()]
    return ", ".join([f"{names[0]} ({platform.machine()})", *words])


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Version of Python, of PyTorch with its build, and of those packages that are installed."""
    import torch

    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Date and time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
