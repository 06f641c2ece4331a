"""Ctrl-C and SIGTERM end a program without a traceback and without leftovers."""

import os
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
sys.argv = {arguments!r}
runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("program", "module", "number"),
    [
        *(
            ("glc_train/__main__.py", module, number)
            for module in ("glc_train.cli", "argparse", "glc_train.cli.compress", "numpy", "torch.nn")
            for number in (signal.SIGINT, signal.SIGTERM)
        ),
        ("evaluate.py", "omegaconf", signal.SIGTERM),
        ("evaluate.py", "torch.nn", signal.SIGINT),
        ("evaluate.py", "glc_train.evaluation", signal.SIGINT),
        ("train.py", "hydra", signal.SIGINT),
        ("train.py", "lightning", signal.SIGINT),
    ],
)
def test_the_imports_end_quietly(program: str, module: str, number: int, repository: Path, tmp_path: Path) -> None:
    arguments = ["compress", "a", "a.glc"] if program.startswith("glc_train") else []
    script = SIGNAL_ON_IMPORT.format(
        module=module, number=int(number), path=str(repository / program), arguments=[program, *arguments]
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (128 + number, "", "")
