"""Work that runs ahead of whoever takes its results: in threads, in order, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Executor, Future
from itertools import count, repeat
from typing import TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], pool: Executor, most: int
) -> Generator[Result, None, None]:
    """`work` of each item, in order. The items are taken in the caller's thread, the work is done by `pool`.

    At most `most` results wait or are being made. An error of `items` or `work` comes up in its place, after the
    results before it, and ends everything: no item after it is taken or, where the pool has one thread, worked on. When
    the generator is closed or fails, work that has not begun is dropped, with all that comes after it; work that has
    begun ends by itself: leaving the `with` statement of the pool waits for it.
    """
    source = iter(items)
    waiting: deque[Future[Result]] = deque()
    failed: list[int] = []

    def unless_failed(number: int, item: Item) -> Result:
        if failed and min(failed) < number:
            raise CancelledError  # nobody sees it: the error before it comes up first
        try:
            return work(item)
        except BaseException:
            failed.append(number)
            raise

    try:
        for number in count():
            try:
                waiting.append(pool.submit(unless_failed, number, next(source)))
            except StopIteration:
                break
            except Exception as error:
                waiting.append(Future())
                waiting[-1].set_exception(error)
                break
            while waiting and (len(waiting) >= most or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in reversed(waiting):  # the last first, for the pool goes on with the first that is left
            future.cancel()
        if isinstance(source, Generator):
            source.close()


def read_ahead(items: Iterable[Item], pool: Executor, most: int) -> Generator[Item, None, None]:
    """The items in order, at most `most` of them taken before they are asked for, by `pool`, which has one thread."""
    source, end = iter(items), object()
    for item in ahead(repeat(None), lambda _: next(source, end), pool, most):
        if item is end:
            return
        yield cast(Item, item)
