"""Time and memory of an action, and the models of conf/model."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf" / "model"


def model_config(name: str = "tiny") -> dict[str, Any]:
    """Configuration of conf/model/NAME.yaml, as "video/tiny". Raises SystemExit if there is no such file."""
    path = CONF / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise SystemExit(f"there is no model {name}: choose among {names}")
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    return dict(config)


def _resident(key: str) -> int | None:
    """Megabytes of a line of /proc/self/status; None where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(key + ":")), None)


def peak_megabytes(action: Callable[[], Any], device: str) -> dict[str, int | None]:
    """Largest memory during the action, and that before it: allocated on the GPU, else resident in the process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() >> 20
        action()
        return {"peak_mb": torch.cuda.max_memory_allocated() >> 20, "before_mb": before}
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # lets VmHWM start anew
    except OSError:
        action()
        return {"peak_mb": None, "before_mb": None}  # not Linux, or not allowed
    resident = _resident("VmHWM")  # VmRSS lags behind on kernels that count it for each core
    action()
    return {"peak_mb": _resident("VmHWM"), "before_mb": resident}


def seconds(action: Callable[[], Any], device: str) -> float:
    """Wall-clock time of the action, in seconds."""
    start = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of the function in a fresh process, whose memory nothing else has touched."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def own_megabytes(process: BaseProcess) -> int | None:
    """Memory that a process has written to, in megabytes, without files that it reads; None where that is not told."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("Private_Dirty:")), None)
