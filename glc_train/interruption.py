"""How a program ends when it is interrupted (Ctrl-C) or told to terminate: quietly, with exit code 130 or 143."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def leave_at_once() -> None:
    """Let both signals end the process on the spot, for as long as there is nothing to clean up.

    While modules are imported an exception would not do: extensions turn it into errors of their own, with tracebacks.
    """
    _install(_leave)


def unwind() -> None:
    """Let both signals raise KeyboardInterrupt and SystemExit(143), so that files under way are removed."""
    _install(_unwind)


def _install(handler: signal.Handlers | object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs ignore some on purpose
            signal.signal(number, handler)  # type: ignore[arg-type]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the cleaning up
    sys.exit(128 + number)
