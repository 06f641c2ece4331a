"""Fixtures for every test: reproducible, offline, one thread for each process."""

import os
import signal
from pathlib import Path

# Before the libraries read them: thread pools are sized at import, and no test may talk to a logging service.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "disabled")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# A job in a shell's background inherits that Ctrl-C is ignored, and would hand it on to the programs under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # golden curves depend on the order of sums, hence on the number of threads

# No deadline: the first example of a test pays for imports. Too slow a generator is the timeout's business.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same random state, alone or in a crowd."""
    torch.manual_seed(0)
    np.random.seed(0)  # some libraries still draw from NumPy's global state


@pytest.fixture(scope="session")
def repository() -> Path:
    """Folder of the checkout, where conf/, train.py and evaluate.py are."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference outputs, weights and pictures that are not ours to distribute.

    It is `shared` beside the checkout, or the folder that the environment variable GLC_SHARED names.
    """
    named = os.environ.get("GLC_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared"
    if named and not folder.is_dir():
        pytest.fail(f"GLC_SHARED names {folder}, which is not a folder: correct or unset it")
    if not folder.is_dir():
        pytest.skip(f"needs the reference data in {folder} (or set GLC_SHARED to its folder)")
    return folder
