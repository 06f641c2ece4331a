"""Progress of what takes long: bytes, speed and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], None]


@contextmanager
def byte_bar(label: str, total: int, shown: bool) -> Iterator[Advance]:
    """A bar on stderr; gives the function that is called with each number of bytes done, from any thread."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"), *columns, console=Console(stderr=True), disable=not shown
    ) as progress:
        task = progress.add_task(label, total=total or None)
        yield lambda size: progress.advance(task, size)
