"""How much memory there is to use."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SHARE = 0.8  # of what is free: others want some too, and estimates are estimates
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class NotEnoughMemory(ValueError):
    """Something needs more memory than there is to use; says how much, and what to do."""


def parse(text: str) -> int:
    """Bytes of a size such as 4G, 2.5 GB, 800M or 1GiB. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text} is not a size such as 4G or 800M")
    unit = match[2].upper()
    return int(float(match[1]) * (1024 ** ("KMGT".index(unit) + 1) if unit and match[3] else _UNITS[unit]))


def shown(size: float) -> str:
    """A number of bytes for people: "12.3 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{round(size / 1e6)} MB"


def room(device: torch.device, budget: int | None = None) -> int | None:
    """Bytes that may be allocated on the device beside what this process has there; None where nothing is known.

    Args:
        device: where.
        budget: of the whole process on that device; None: a share of what is free, within the limits of its group.
    """
    if budget is not None:
        return max(0, budget - held(device))
    free = _free(device)
    return None if free is None else int(_SHARE * free)


def held(device: torch.device) -> int:
    """Bytes that this process has on the device: resident, on a processor; 0 where nothing is known."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def give_back() -> None:
    """Hands the system what was freed and the C library keeps: up to 1 GB after many maps of some megabytes."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """That of glibc; other C libraries have none, or keep little."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim


def _free(device: torch.device) -> int | None:
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    return min([kilobytes["MemAvailable"] * 1024, *_group_rooms(Path("/"))])


def _group_rooms(root: Path) -> list[int]:
    """What the control groups of this process (containers, `systemd-run`) leave it; `root`: of the file system."""
    rooms = []
    for folder, limit, used in _groups(root):
        try:
            cap = (folder / limit).read_text("ascii").strip()
            if cap != "max":
                stat = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
                # the kernel gives up cached files before it ends a process
                cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
                rooms.append(max(0, int(cap) - int((folder / used).read_text("ascii")) + cached))
        except (OSError, ValueError):
            continue
    return rooms


def _groups(root: Path) -> list[tuple[Path, str, str]]:
    """Folders of the groups that limit this process, with the names of limit and use in versions 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text("ascii").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = ("memory.max", "memory.current")
        mount = root / "sys/fs/cgroup"
        if controllers:
            if "memory" not in controllers.split(","):
                continue
            names, mount = ("memory.limit_in_bytes", "memory.usage_in_bytes"), mount / "memory"
        # in a container the mount is the group itself, and the path that of the host
        inside = Path(path.lstrip("/"))
        found += [(mount / part, *names) for part in (inside, *inside.parents)]
    return found
