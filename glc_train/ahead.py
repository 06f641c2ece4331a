"""Work that runs ahead of whoever takes its results: in threads, in order, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import repeat
from typing import TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], pool: Executor, most: int
) -> Generator[Result, None, None]:
    """`work` of each item, in order. The items are taken in the caller's thread, the work is done by `pool`.

    At most `most` results wait or are being made. An error of `items` or `work` comes up in its place, after the
    results before it. When the generator is closed or fails, work that has not begun is dropped; work that has begun
    ends by itself: leaving the `with` statement of the pool waits for it.
    """
    source = iter(items)
    waiting: deque[Future[Result]] = deque()
    try:
        while (future := _begun(source, work, pool)) is not None:
            waiting.append(future)
            while waiting and (len(waiting) >= most or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if isinstance(source, Generator):
            source.close()


def _begun(source: Iterator[Item], work: Callable[[Item], Result], pool: Executor) -> Future[Result] | None:
    """The work of the next item, None where there is none; an error of `source` becomes that of the work."""
    try:
        return pool.submit(work, next(source))
    except StopIteration:
        return None
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        return failed


def read_ahead(items: Iterable[Item], pool: Executor, most: int) -> Generator[Item, None, None]:
    """The items in order, at most `most` of them taken before they are asked for, by `pool`, which has one thread."""
    source, end = iter(items), object()
    for item in ahead(repeat(None), lambda _: next(source, end), pool, most):
        if item is end:
            return
        yield cast(Item, item)
