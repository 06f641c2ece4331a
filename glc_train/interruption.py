"""How a program ends on Ctrl-C, SIGTERM or SIGHUP: quietly, with 128 + the signal's number as its exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows


def leave_at_once() -> None:
    """Let the signals end the process on the spot, for as long as there is nothing to clean up.

    While modules are imported an exception would not do: extensions turn it into errors of their own, with tracebacks.
    """
    install(_leave)


def unwind() -> None:
    """Let Ctrl-C raise KeyboardInterrupt and the others SystemExit, so that files under way are removed."""
    install(_unwind)


def install(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have `handler` called on the signals; without effect in a thread, where Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs ignore some on purpose
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _unwind(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the cleaning up
    sys.exit(128 + number)
