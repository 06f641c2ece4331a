"""Jobs in processes: what one loses, and that none outlives its parent. Nothing heavy is imported in them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from glc_train.files import replacing
from glc_train.processes import Failure, in_processes

PARENT = """
import sys
from functools import partial
from pathlib import Path
from glc_train import interruption
from glc_train.processes import in_processes
from tests.test_processes import endless

if __name__ == "__main__":
    interruption.unwind()
    list(in_processes(["a", "b"], 2, partial(endless, Path(sys.argv[1]))))
"""


def squares(folder: Path) -> Callable[[int], int]:
    return partial(square, folder)


def square(folder: Path, job: int) -> int:
    """Dies in the way that the job's number stands for; 1 only once."""
    tries = folder / f"{job}-{time.monotonic_ns()}"
    tries.touch()
    if job == 1 and len(list(folder.glob("1-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 3:
        raise OSError("three is not wanted")
    if job == 4:
        raise RuntimeError("a mistake in the program")
    return job**2


def endless(folder: Path) -> Callable[[str], None]:
    return partial(write_for_ever, folder)


def write_for_ever(folder: Path, name: str) -> None:
    with replacing(folder / name):
        (folder / f"{name}.begun").touch()
        while True:
            time.sleep(0.05)


def test_a_process_that_dies_costs_its_own_job_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = dict(in_processes(range(6), 2, partial(squares, tmp_path)))
    assert {job: found[job] for job in (0, 1, 5)} == {0: 0, 1: 1, 5: 25}
    killed, refused, crashed = (found[job] for job in (2, 3, 4))
    assert isinstance(killed, Failure)
    assert "killed twice (signal 9)" in killed.reason
    assert refused == Failure("three is not wanted")
    assert isinstance(crashed, Failure)
    assert "error above" in crashed.reason
    assert "RuntimeError: a mistake in the program" in capfd.readouterr().err
    tries = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert {job: tries.count(job) for job in set(tries)} == {"0": 1, "1": 2, "2": 2, "3": 1, "4": 1, "5": 1}


def test_an_iteration_that_is_given_up_stops_the_processes(tmp_path: Path) -> None:
    with closing(in_processes([0, 5, 6], 2, partial(squares, tmp_path))) as done:
        next(done)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_processes_end_with_their_parent_and_clean_up(number: int, code: int, tmp_path: Path, repository: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "written"
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(repository)}
    parent = subprocess.Popen([sys.executable, script, folder], env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.begun"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(number)
    _, shown = parent.communicate(timeout=60)  # ends when the last process that holds the pipe does
    assert (parent.returncode, shown) == (code, "")
    assert sorted(path.name for path in folder.iterdir()) == ["a.begun", "b.begun"]
