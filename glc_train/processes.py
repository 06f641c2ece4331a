"""Jobs in processes of their own: one that dies costs its job a second try, and never the results of others.

`concurrent.futures` fails all jobs of a pool where one process is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar, cast

from glc_train import interruption
from glc_train.errors import is_for_user

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

_CRASHED = 1  # exit code after an uncaught exception, whose traceback is on stderr
_TO_CLEAN_UP = 10.0  # seconds


@dataclass(frozen=True)
class Failure:
    """Why a job has no result."""

    reason: str


def attempt(measure: Callable[[_Job], _Result], job: _Job) -> _Result | Failure:
    """The result of a job; what is wrong with its input is a failure, anything else is raised."""
    try:
        return measure(job)
    except Exception as error:
        if not is_for_user(error):
            raise
        return Failure(str(error))


def in_processes(
    jobs: Sequence[_Job], count: int, start: Callable[[], Callable[[_Job], _Result]]
) -> Generator[tuple[_Job, _Result | Failure], None, None]:
    """Does jobs in `count` processes at once; yields each with its result, in the order in which they end.

    A job whose process was killed gets a new one, once. The processes end with the iterator, and with this process
    however that ends.

    Args:
        jobs: picklable.
        count: of processes.
        start: picklable; called in each process, returns what does a job.
    """
    waiting, idle = deque((job, 1) for job in jobs), deque[_Worker[_Job, _Result]]()
    busy: dict[Connection, tuple[_Worker[_Job, _Result], _Job, int]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < count:
                worker = idle.popleft() if idle else _Worker(start)
                busy[worker.connection] = (worker, *waiting.popleft())
                worker.begin(busy[worker.connection][1])
            for connection in cast(list[Connection], wait(list(busy))):
                worker, job, tries = busy.pop(connection)
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    code = worker.join()
                    if code != _CRASHED and tries == 1:
                        waiting.append((job, tries + 1))
                        continue
                    outcome = Failure(_reason(code))
                else:
                    idle.append(worker)
                yield job, outcome
    finally:
        _stop([*idle, *(worker for worker, _, _ in busy.values())])


def _reason(code: int | None) -> str:
    if code == _CRASHED:
        return "its process ended with the error above."
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return f"its process was killed twice ({how}): perhaps memory is short; give fewer workers."


class _Worker(Generic[_Job, _Result]):
    """A process that does one job after the other."""

    def __init__(self, start: Callable[[], Callable[[_Job], _Result]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(start, theirs), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()

    def begin(self, job: _Job) -> None:
        """Hand over a job; whether its process lives shows when its result is asked for."""
        with suppress(OSError):
            self.connection.send(job)

    def join(self) -> int | None:
        """Exit code of a process that has ended."""
        self.process.join()
        self.connection.close()
        return self.process.exitcode


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; one that is started in here leaves it to its parent."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is blocked stays so in the new process
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _stop(workers: Sequence[_Worker[Any, Any]]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_TO_CLEAN_UP)
        if worker.process.is_alive():
            worker.process.kill()
        worker.join()


def _serve(start: Callable[[], Callable[[Any], Any]], connection: Connection) -> None:
    """The life of a worker."""
    interruption.unwind()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    measure: Callable[[Any], Any] | None = None

    def begin_and_measure(job: Any) -> Any:
        nonlocal measure
        measure = measure or start()
        return measure(job)

    # The interpreter's own end takes seconds once large libraries are loaded.
    try:
        while True:
            connection.send(attempt(begin_and_measure, connection.recv()))
    except (EOFError, OSError):
        os._exit(0)  # the parent wants no more
    except SystemExit as end:
        os._exit(cast(int, end.code))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # unwinds the main thread, so that files under way are removed
    time.sleep(_TO_CLEAN_UP)
    os._exit(1)
