"""Frames side by side: the auto-encoder, which needs nothing of the frame before, runs in threads beside the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import torch
from torch import Tensor

from glc_train.ahead import ahead

Item = TypeVar("Item")
Result = TypeVar("Result")

PIXELS_AT_ONCE = 2**22
"""Of all frames in the auto-encoder at a time: what bounds the memory. Larger frames use all cores, one by one."""
_LANES = 3


class Lanes:
    """Threads in which auto-encoders run, each on a frame of its own, while the caller's thread codes latents.

    On processors each thread, the caller's too, has an equal share of the cores that PyTorch uses: small frames give no
    work for all of them. PyTorch knows one such number for the process, so it is lower while a `with Lanes(...)` is
    under way. On a GPU there is one lane, with a stream of its own.

    Args:
        device: where the networks are.
        pixels: of a frame.
    """

    _entered = 0
    _threads_before = 1
    _lock = threading.Lock()

    def __init__(self, device: torch.device, pixels: int) -> None:
        self._threads = max(1, torch.get_num_threads() // (_LANES + 1))
        self.count = min(_LANES, torch.get_num_threads(), max(1, PIXELS_AT_ONCE // max(1, pixels)))
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self.stream is not None:
            self.count = 1
        elif self.count == 1 or device.type != "cpu":
            self.count = 0  # nothing to gain
        self._pool: Executor | None = None

    def __enter__(self) -> Self:
        if self.count:
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="frame")
            with Lanes._lock:
                if not Lanes._entered:
                    Lanes._threads_before = torch.get_num_threads()
                    if self.stream is None:
                        torch.set_num_threads(self._threads)
                Lanes._entered += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Waits until the frames that are under way are done."""
        if self._pool is None:
            return
        self._pool.shutdown(cancel_futures=True)
        self._pool = None
        with Lanes._lock:
            Lanes._entered -= 1
            if not Lanes._entered:
                torch.set_num_threads(Lanes._threads_before)

    def ahead(self, items: Iterable[Item], work: Callable[[Item], Result]) -> Generator[Result, None, None]:
        """As `ahead.ahead`, with one result more than there are lanes; with no lane `work` is done when asked for."""
        if self._pool is None:
            yield from map(work, items)
            return
        if self.stream is None:
            yield from ahead(items, work, self._pool, self.count + 1)
        else:
            yield from ahead(map(self._marked, items), partial(self._on_stream, work), self._pool, self.count + 1)

    def _marked(self, item: Item) -> tuple[Item, torch.cuda.Stream, torch.cuda.Event]:
        """With the stream that the item was made on, and the place on it where the item is complete."""
        made_on = torch.cuda.current_stream()
        return item, made_on, made_on.record_event()

    def _on_stream(
        self, work: Callable[[Item], Result], marked: tuple[Item, torch.cuda.Stream, torch.cuda.Event]
    ) -> Result:
        """`work` on the lane's stream; its result is complete, and may be used on the stream that the item is of."""
        item, made_on, complete = marked
        assert self.stream is not None
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(complete)
            result = work(item)
            for part in result if isinstance(result, tuple) else (result,):
                if isinstance(part, Tensor) and part.is_cuda:
                    part.record_stream(made_on)
            self.stream.synchronize()
        return result
