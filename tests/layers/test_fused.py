"""Kernels for GPUs: on processors by Triton's interpreter, on a GPU as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glc_train.layers import fused
from tests.layers.fused_checks import a_map, check_norm, check_sum


def test_kernels_by_the_interpreter() -> None:
    """In a process of its own: once Triton is imported, it cannot change to the interpreter any more."""
    cases = Path(__file__).with_name("fused_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert "17 passed" in run.stdout


def test_a_processor_takes_the_other_way() -> None:
    assert not fused.fits(a_map(1, 8, 4, 4))


def test_kernels_that_do_not_run_are_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "glc_train.layers.fused_kernels", raising=False)
    fused._kernels.cache_clear()
    assert fused._kernels() is None
    fused._kernels.cache_clear()
    assert "PyTorch's take longer" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((1, 32, 7, 9), 32), ((2, 192, 33, 41), 32), ((1, 128, 1080, 1920), 32), ((1, 512, 68, 9), 32)],
)
def test_kernels_on_a_gpu(shape: tuple[int, ...], groups: int) -> None:
    assert fused._kernels() is not None
    check_norm("cuda", shape, groups, swish=True, biased=True)
    check_norm("cuda", shape, groups, swish=False, biased=False)
    check_sum("cuda", shape, biased=True, two=True)
