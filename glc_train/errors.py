"""Errors that are a sentence for the user; all others are mistakes in a program, which a traceback finds."""

import dis
import errno
from pathlib import Path
from types import TracebackType

_PACKAGE = __name__.partition(".")[0]


def is_for_user(error: BaseException) -> bool:
    """Whether the error's text says what to mend, so that its traceback may be left out.

    That is: an `OSError`, which names a file; a class of this package; and a `ValueError` that this package raised
    itself. One out of a library, out of Python (as of `int("x")`) or out of a user's own class is none.
    """
    if isinstance(error, OSError) or _is_of_package(type(error).__module__):
        return True
    return isinstance(error, ValueError) and _was_raised_by_package(error.__traceback__)


def sentence(error: Exception, path: Path | None = None) -> str:
    """The error's text; of an `OSError`, its file (or `path`, where it names none), the reason and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room, or write elsewhere" if full else "check the path and its rights"
    return f"{error.filename or path or 'standard output'}: {error.strerror}; {advice}."


def _is_of_package(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE


def _was_raised_by_package(traceback: TracebackType | None) -> bool:
    """Whether its innermost line is a `raise` in this package."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    instruction = dis.opname[frame.f_code.co_code[traceback.tb_lasti]]
    return _is_of_package(frame.f_globals.get("__name__", "")) and instruction == "RAISE_VARARGS"
