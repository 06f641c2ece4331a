"""Ctrl-C and SIGTERM end a program without a traceback and without leftovers."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SIGNAL_ON_IMPORT = """
import os, runpy, sys

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signal())
sys.argv = ["glc", "compress", "a.png", "a.glc"]
runpy.run_module("glc_train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["glc_train.cli", "argparse", "glc_train.cli.clips", "numpy", "torch.nn"])
def test_the_imports_of_glc_end_quietly(module: str, number: int, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SIGNAL_ON_IMPORT.format(module=module, number=int(number))],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (128 + number, "", "")
