"""What cannot be done, in one sentence."""

from __future__ import annotations

from pathlib import Path

from glc_train.errors import is_for_user, sentence


class CommandError(ValueError):
    """What was asked cannot be done; says why and what to do."""


def explain(error: Exception, path: Path | None = None) -> str:
    """One sentence for an error; names `path` where the error itself does not."""
    text = sentence(error, path)
    if isinstance(error, OSError) and error.strerror:  # its file is named already
        return text
    for subject in ("The data ", "The file ", "The coded data "):
        if path is not None and text.startswith(subject):
            return f"{path} {text.removeprefix(subject)}"
    return text if path is None or str(path) in text else f"{path}: {text}"


def failure(error: Exception, path: Path) -> str:
    """One sentence about why `path` failed; raises `error` again if it is none that a user can do something about."""
    if isinstance(error, BrokenPipeError):
        raise error
    if is_for_user(error):
        return explain(error, path)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error).lower()):
        return f"{path}: too large for the memory of this device; use --device cpu, or a smaller picture."
    raise error
