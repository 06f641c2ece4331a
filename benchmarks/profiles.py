"""Where the time of a training step goes: what waits for the GPU, and which operators and kernels take longest."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

ROWS = 15


class _From(Callback):
    """Calls `begin` before training step `first`, which is the first that is looked at."""

    def __init__(self, first: int, begin: Any) -> None:
        self._first, self._begin = first, begin

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self._first:
            self._begin()


class HostWaits:
    """Counts the calls for which the processor waits for the GPU, by the line of Python that makes them."""

    def __init__(self, first: int) -> None:
        self.lines: Counter[str] = Counter()
        self.callback = _From(first, lambda: torch.cuda.set_sync_debug_mode("warn"))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Around a training with `callback`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
        for each in caught:
            if "synchroniz" in str(each.message):
                self.lines[f"{each.filename.partition('site-packages/')[2] or each.filename}:{each.lineno}"] += 1


class Profile:
    """Profiles the steps of a training from step `first` on."""

    def __init__(self, first: int, device: str) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
        self._profiler = profile(activities=activities)
        self._device = device
        self.callback = _From(first, self._profiler.start)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a training with `callback`."""
        try:
            yield
        finally:
            if self._device == "cuda":
                torch.cuda.synchronize()
            self._profiler.stop()

    def figures(self, steps: int) -> dict[str, float]:
        """Of one of the `steps` that were profiled: operators, kernels, and seconds in which the GPU computes."""
        events = self._profiler.events() or []
        # Sections of the program that it has named count as events of the GPU, too.
        on_gpu = [event for event in events if event.device_type == DeviceType.CUDA]
        kernels = [event for event in on_gpu if not event.is_user_annotation]
        operators = sum(event.device_type == DeviceType.CPU and event.name.startswith("aten::") for event in events)
        return {
            "operators": operators / steps,
            "kernels": len(kernels) / steps,
            "kernel_seconds": sum(event.time_range.elapsed_us() for event in kernels) / 1e6 / steps,
        }

    def table(self) -> str:
        """The operators and kernels that take longest, on the GPU and on the processor."""
        averages = self._profiler.key_averages()
        sorts = [*(["self_cuda_time_total"] if self._device == "cuda" else []), "self_cpu_time_total"]
        tables = [averages.table(sort_by=sort, row_limit=ROWS, max_name_column_width=70) for sort in sorts]
        return "\n".join(f"sorted by {sort}\n{table}" for sort, table in zip(sorts, tables, strict=True))
