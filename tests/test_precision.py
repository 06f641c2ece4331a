"""The choice between bfloat16 and float32: by the processor's instructions, oneDNN's limits and the GPU's kind."""

import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from glc_train import precision

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


class _Answers(SimpleNamespace):
    """Stands for `torch.ops.mkldnn`, or for an older one without the question where `supported` is None."""

    def __init__(self, supported: bool | None) -> None:
        super().__init__(**({} if supported is None else {"_is_mkldnn_bf16_supported": lambda: supported}))


def _pretend(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, supported: bool | None, limit: str | None
) -> None:
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops, "mkldnn", _Answers(supported))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "AMX" in flags)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "AVX512_BF16" in flags)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv(*limit.split("="))


@pytest.mark.parametrize(
    ("machine", "flags", "supported", "limit", "native", "reason"),
    [
        ("x86_64", "AMX AVX512_BF16", True, None, True, "this processor has AMX and AVX512_BF16"),
        ("AMD64", "AVX512_BF16", True, None, True, "this processor has AVX512_BF16"),
        ("x86_64", "", False, None, False, "neither AMX nor AVX512_BF16"),
        ("x86_64", "", True, None, False, "neither AMX nor AVX512_BF16"),  # AVX512 alone: oneDNN says yes and emulates
        ("x86_64", "AMX AVX512_BF16", False, "ONEDNN_MAX_CPU_ISA=AVX2", False, "limited to AVX2"),
        ("x86_64", "AMX AVX512_BF16", True, "ONEDNN_MAX_CPU_ISA=avx512_core", False, "limited to AVX512_CORE"),
        ("x86_64", "AMX AVX512_BF16", True, "DNNL_MAX_CPU_ISA=AVX512_CORE_VNNI", False, "limited to AVX512_CORE_VNNI"),
        ("x86_64", "AMX AVX512_BF16", True, "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16", True, "AVX512_BF16"),
        ("x86_64", "AMX AVX512_BF16", True, "ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX", True, "AMX"),
        ("x86_64", "AMX AVX512_BF16", None, None, False, "does not use"),
        ("aarch64", "", True, None, True, "this processor has bfloat16 instructions"),
        ("arm64", "", False, None, False, "no bfloat16 instructions"),
    ],
)
def test_processors_take_bfloat16_only_where_onednn_computes_it_natively(
    monkeypatch: pytest.MonkeyPatch,
    machine: str, flags: str, supported: bool | None, limit: str | None, native: bool, reason: str,
) -> None:  # fmt: skip
    _pretend(monkeypatch, machine, flags, supported, limit)
    choice = precision.choose("cpu")
    assert choice.dtype == (torch.bfloat16 if native else torch.float32)
    assert reason in choice.reason


def test_without_onednn_processors_take_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "x86_64", "AMX AVX512_BF16", True, None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert precision.choose("cpu") == precision.Precision(
        torch.float32, "this PyTorch computes without oneDNN, which bfloat16 on processors needs"
    )


@pytest.mark.parametrize(
    ("capability", "hip", "dtype"),
    [
        ((7, 5), None, torch.float32),
        ((8, 0), None, torch.bfloat16),
        ((9, 0), None, torch.bfloat16),
        ((7, 0), "6.4", torch.bfloat16),
    ],
)
def test_gpus_take_bfloat16_from_compute_capability_8_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None, dtype: torch.dtype
) -> None:
    gpu = SimpleNamespace(name="Some GPU", major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.version, "hip", hip)
    choice = precision.choose("cuda:1")
    assert choice.dtype == dtype
    assert choice.reason == "Some GPU has compute capability {}.{}".format(*capability)


def test_apple_gpus_are_tried_and_unknown_devices_compute_in_float32() -> None:
    if not torch.backends.mps.is_available():
        assert precision.choose("mps") == precision.Precision(
            torch.float32, "this GPU does not compute bfloat16"
        )  # the trial fails, as it does on a GPU that refuses the type
    assert precision.choose("meta").dtype == torch.float32


def test_this_pytorch_answers_what_the_choice_asks() -> None:
    """The names are private: a PyTorch without them would make everything float32 in silence."""
    assert isinstance(torch.ops.mkldnn._is_mkldnn_bf16_supported(), bool)
    assert isinstance(torch.cpu._is_amx_tile_supported(), bool)
    assert isinstance(torch.cpu._is_avx512_bf16_supported(), bool)


@pytest.mark.skipif("x86" not in precision.platform.machine(), reason="others emulate without such a loss")
def test_the_choice_agrees_with_the_clock() -> None:
    native = precision.choose("cpu").dtype == torch.bfloat16
    assert (precision.slowdown("cpu", 512) < 2) == native  # about 0.5 where native, 5 to 300 where emulated


def test_a_process_limited_to_avx2_computes_in_float32_and_warns_of_bfloat16() -> None:
    script = """
import logging
from glc_train import precision
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
print(precision.resolve("auto", "cpu"), precision.resolve("bfloat16", "cpu"), precision.slowdown("cpu"))
"""
    environment = os.environ | AVX2 | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    auto, asked, factor = run.stdout.split()
    assert (auto, asked) == ("torch.float32", "torch.bfloat16")
    chosen, warned = run.stderr.splitlines()
    assert chosen.startswith("INFO computing in float32: ")
    assert warned.startswith("WARNING bfloat16 is slow here: ")
    assert "times as long as in float32" in warned
    if "x86" in precision.platform.machine():
        assert float(factor) > 2


@pytest.mark.parametrize(
    ("asked", "native", "dtype", "lines"),
    [
        ("auto", True, torch.bfloat16, ["INFO computing in bfloat16: because"]),
        ("auto", False, torch.float32, ["INFO computing in float32: because"]),
        ("float32", True, torch.float32, []),
        (torch.float32, False, torch.float32, []),
        ("bfloat16", True, torch.bfloat16, []),
        (
            torch.bfloat16,
            False,
            torch.bfloat16,
            ["WARNING bfloat16 is slow here: because; a matrix product takes 7 times as long as in float32"],
        ),
    ],
)
def test_one_line_says_what_was_chosen_or_what_is_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    asked: str | torch.dtype, native: bool, dtype: torch.dtype, lines: list[str],
) -> None:  # fmt: skip
    choice = precision.Precision(torch.bfloat16 if native else torch.float32, "because")
    monkeypatch.setattr(precision, "choose", lambda device: choice)
    monkeypatch.setattr(precision, "slowdown", lambda device: 7.2)
    with caplog.at_level(logging.INFO):
        assert precision.resolve(asked, "cpu") == dtype
    assert [f"{record.levelname} {record.message}" for record in caplog.records] == lines


@pytest.mark.parametrize("asked", ["float16", "Tensor", "", torch.float64])
def test_other_names_are_refused(asked: str | torch.dtype) -> None:
    with pytest.raises(ValueError, match="dtype must be one of auto, float32, bfloat16, not "):
        precision.resolve(asked, "cpu")
