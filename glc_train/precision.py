"""Which floating-point format a device should compute in: bfloat16 where it has instructions for that, else float32.

Without them bfloat16 is emulated, which takes 5 to 300 times as long as float32.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from dataclasses import dataclass

import torch

log = logging.getLogger(__name__)
AUTO = "auto"
NAMES = (AUTO, "float32", "bfloat16")
"""What `resolve` takes by name."""

# oneDNN says yes to bfloat16 from AVX512_CORE on, and emulates it up to the set that is named here last.
_EMULATING_ISAS = ("AVX512_CORE", "AVX512_CORE_VNNI")


@dataclass(frozen=True)
class Precision:
    """What a device should compute in.

    Attributes:
        dtype: `torch.bfloat16` or `torch.float32`.
        reason: why, as a clause: "this processor has AMX".
    """

    dtype: torch.dtype
    reason: str


def choose(device: str | torch.device) -> Precision:
    """What networks on `device` should compute in; takes a millisecond.

    Older GPUs get float32 rather than float16, whose range some gradients and activations leave.
    """
    device = torch.device(device)
    probe = {"cpu": _probe_cpu, "cuda": _probe_cuda, "mps": _probe_mps}.get(device.type)
    native, reason = probe(device) if probe else (False, f"nothing is known about bfloat16 on {device.type}")
    return Precision(torch.bfloat16 if native else torch.float32, reason)


def dtype_of(asked: str | torch.dtype, device: str | torch.device) -> torch.dtype:
    """The dtype that is meant by `asked`.

    Args:
        asked: one of `NAMES`, `torch.float32` or `torch.bfloat16`.
        device: where the networks run.

    Raises:
        ValueError: `asked` is something else.
    """
    name = name_of(asked)
    if name not in NAMES:
        raise ValueError(f"dtype must be one of {', '.join(NAMES)}, not {asked}")
    dtype: torch.dtype = choose(device).dtype if name == AUTO else getattr(torch, name)
    return dtype


def name_of(dtype: str | torch.dtype) -> str:
    """ "float32" for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def resolve(asked: str | torch.dtype, device: str | torch.device) -> torch.dtype:
    """As `dtype_of`, with a line in the log: what "auto" chose and why, or how slow emulated bfloat16 is."""
    dtype, choice = dtype_of(asked, device), choose(device)
    if asked == AUTO:
        log.info("computing in %s: %s", name_of(dtype), choice.reason)
    elif dtype == torch.bfloat16 and choice.dtype != torch.bfloat16:
        log.warning(
            "bfloat16 is slow here: %s; a matrix product takes %.0f times as long as in float32",
            choice.reason,
            slowdown(device),
        )
    return dtype


def slowdown(device: str | torch.device, size: int = 256) -> float:
    """How many times as long as in float32 a product of two matrices size × size takes in bfloat16, measured."""
    return _seconds(device, torch.bfloat16, size) / _seconds(device, torch.float32, size)


def _seconds(device: str | torch.device, dtype: torch.dtype, size: int) -> float:
    """The least of three times, after one that prepares."""
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def _probe_cpu(device: torch.device) -> tuple[bool, str]:
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False, "this PyTorch computes without oneDNN, which bfloat16 on processors needs"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    limited = f"oneDNN is limited to {limit}" if limit else ""
    # The names are private to PyTorch: without an answer float32 is never wrong.
    answer = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    supported = answer is not None and bool(answer())
    if platform.machine().lower() in ("aarch64", "arm64"):
        return supported, f"this processor has {'' if supported else 'no '}bfloat16 instructions"
    found = [
        name
        for name, check in (("AMX", "_is_amx_tile_supported"), ("AVX512_BF16", "_is_avx512_bf16_supported"))
        if bool(getattr(torch.cpu, check, bool)())
    ]
    if not found:
        return False, "this processor has neither AMX nor AVX512_BF16"
    if not supported or limit in _EMULATING_ISAS:
        return False, limited or "oneDNN does not use this processor's bfloat16 instructions"
    return True, f"this processor has {' and '.join(found)}"


def _probe_cuda(device: torch.device) -> tuple[bool, str]:
    gpu = torch.cuda.get_device_properties(device)
    # PyTorch has no finer rule for AMD's.
    native = torch.version.hip is not None or gpu.major >= 8
    return native, f"{gpu.name} has compute capability {gpu.major}.{gpu.minor}"


def _probe_mps(device: torch.device) -> tuple[bool, str]:
    try:
        ones = torch.ones(8, 8, dtype=torch.bfloat16, device=device)
        native = float((ones @ ones)[0, 0]) == 8
    except (RuntimeError, TypeError):
        native = False
    return native, f"this GPU {'computes' if native else 'does not compute'} bfloat16"
