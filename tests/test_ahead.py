"""Work that runs ahead: in order, no further than allowed, errors in their place, no thread left."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from glc_train.ahead import ahead, read_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def counted(most: int, taken: list[int]) -> Iterator[int]:
    for item in range(most):
        taken.append(item)
        yield item


def test_results_keep_their_order_and_stay_few(pool: ThreadPoolExecutor) -> None:
    taken: list[int] = []
    given = 0
    for result in ahead(counted(20, taken), lambda item: item * item, pool, 3):
        assert result == given * given
        given += 1
        assert len(taken) - given <= 3
    assert given == len(taken) == 20


def test_a_result_that_is_there_does_not_wait_for_more_items(pool: ThreadPoolExecutor) -> None:
    shown = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert shown.wait(60)
        yield 1

    class Instant(ThreadPoolExecutor):
        def submit(self, *arguments, **options):  # type: ignore[no-untyped-def]
            future = super().submit(*arguments, **options)
            future.exception()
            return future

    with Instant(1) as instant:
        results = ahead(items(), str, instant, 4)
        assert next(results) == "0"
        shown.set()
        assert list(results) == ["1"]


@pytest.mark.parametrize("where", ["items", "work"])
def test_an_error_comes_after_the_results_before_it(pool: ThreadPoolExecutor, where: str) -> None:
    def items() -> Iterator[int]:
        yield from (0, 1, 2)
        if where == "items":
            raise OSError("the disk is gone")
        yield 3

    def work(item: int) -> int:
        if item == 3:
            raise OSError("the disk is gone")
        return item

    found: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(ahead(items(), work, pool, 4))
    assert found == [0, 1, 2]


def test_nothing_is_taken_after_an_error_of_the_items(pool: ThreadPoolExecutor) -> None:
    """Though `map` would go on with the item after it."""
    release, taken = threading.Event(), []

    def item(number: int) -> int:
        taken.append(number)
        if number == 2:
            release.set()
            raise OSError("the disk is gone")
        return number

    def work(item: int) -> int:
        assert release.wait(60)
        return item

    found: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(ahead(map(item, range(6)), work, pool, 6))
    assert found == [0, 1]
    assert taken == [0, 1, 2]


def test_no_work_is_done_after_an_error_of_work() -> None:
    failing, begun = threading.Event(), []

    def items() -> Iterator[int]:
        yield from range(4)
        failing.set()
        yield 4

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            assert failing.wait(60)
            raise OSError("the disk is gone")

    with ThreadPoolExecutor(1) as thread, pytest.raises(OSError, match="the disk is gone"):
        list(ahead(items(), work, thread, 5))
    assert begun == [0, 1]


def test_what_closing_drops_leaves_no_gap() -> None:
    """The thread comes free as soon as the first of the waiting items is dropped."""
    submitted, release, begun = threading.Event(), threading.Event(), []

    class Slow(ThreadPoolExecutor):
        def submit(self, *arguments, **options):  # type: ignore[no-untyped-def]
            future = super().submit(*arguments, **options)
            cancel = future.cancel

            def slowly() -> bool:
                done = cancel()
                if done and not release.is_set():
                    release.set()
                    time.sleep(0.2)
                return done

            future.cancel = slowly
            return future

    def items() -> Iterator[int]:
        yield from range(4)
        submitted.set()
        yield 4

    def work(item: int) -> int:
        begun.append(item)
        assert (release if item else submitted).wait(60)
        return item

    with Slow(1) as thread:
        results = ahead(items(), work, thread, 5)
        assert next(results) == 0
        results.close()
    assert begun == list(range(len(begun)))
    assert len(begun) < 5


def test_closing_drops_what_has_not_begun(pool: ThreadPoolExecutor) -> None:
    release, begun, closed = threading.Event(), [], []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    def work(item: int) -> int:
        begun.append(item)
        if item:
            assert release.wait(60)
        return item

    results = ahead(items(), work, pool, 6)
    assert next(results) == 0
    results.close()
    release.set()
    pool.shutdown()
    assert closed == [True]
    assert len(begun) <= 4  # the first, and one in each thread with the next that it took


def test_reading_ahead_gives_the_same_items_and_errors() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("damaged")

    before = threading.active_count()
    with ThreadPoolExecutor(1) as thread:
        assert list(read_ahead(range(7), thread, 3)) == list(range(7))
        assert list(read_ahead([], thread, 3)) == []
        found = read_ahead(items(), thread, 3)
        assert [next(found) for _ in range(5)] == list(range(5))
        with pytest.raises(ValueError, match="damaged"):
            next(found)
    assert threading.active_count() == before
