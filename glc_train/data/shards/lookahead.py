"""What will be asked for next, fetched by threads beforehand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Lookahead(Generic[Value]):
    """Fetches places in the order in which they will be taken, as far ahead as memory allows."""

    def __init__(
        self,
        places: Iterable[int],
        fetch: Callable[[int], Value],
        size: Callable[[int], int],
        limit: float,
        threads: int,
    ) -> None:
        """Begin to fetch.

        places: in the order in which they will be taken, each once; may be endless.
        fetch, size: give what a place holds, and its bytes.
        limit: bytes fetched and not yet taken. threads: how many fetch at the same time.
        """
        self._places: Iterator[int] = iter(places)
        self._fetch = fetch
        self._size = size
        self._limit = limit
        self._changed = threading.Condition()
        self._fetched: dict[int, tuple[Future[Value], int]] = {}
        self._held = 0
        self._stopped = False
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def take(self, place: int) -> Value:
        """Return what `place` holds; what comes before it in the order and was not taken is dropped.

        Raises: what fetching it raised.
        """
        with self._changed:
            future = None
            if place in self._fetched:
                for earlier in list(self._fetched):
                    future, size = self._fetched.pop(earlier)
                    self._held -= size
                    if earlier == place:
                        break
                self._changed.notify_all()
        return self._fetch(place) if future is None else future.result()

    def stop(self) -> None:
        """End the threads when they have fetched what they are at, and drop what was not taken."""
        with self._changed:
            self._stopped = True
            self._fetched.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._held < self._limit)
                place = None if self._stopped else next(self._places, None)
                if place is None:
                    return
                future: Future[Value] = Future()
                size = self._size(place)
                self._fetched[place] = (future, size)
                self._held += size
            try:
                future.set_result(self._fetch(place))
            except BaseException as error:  # raised where it is taken
                future.set_exception(error)
