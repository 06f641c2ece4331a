"""Where the time of a training step goes: a clock for its phases, and the operators that take most of it."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import Profiler
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from glc_train.files import write_text
from glc_train.provenance import hardware
from glc_train.training.stage import Stage, TrainingError

log = logging.getLogger(__name__)
REPORT = "profile.txt"
_ORDER = (
    "data", "encoder", "quantiser", "transform", "decoder", "LPIPS", "code prediction", "losses", "backward",
    "discriminator", "optimiser", "codebook", "EMA", "other",
)  # fmt: skip
_BATCH = "run_training_batch"  # Lightning's names of what it tells its profiler
_DATA = "train_dataloader_next"


class PhaseClock:
    """Wall-clock seconds of nested phases, each without the phases inside it.

    On a GPU every boundary waits for the kernels before it: times are true, but the step is a little slower.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.running = False
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def enter(self, name: str) -> None:
        """Begins a phase; the one around it stands still."""
        self._account()
        self._open.append(name)

    def leave(self) -> None:
        """Ends the innermost phase."""
        self._account()
        self._open.pop()

    def _account(self) -> None:
        if self.running and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self.running and self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase as a context; torch's profiler sees its name too."""
        self.enter(name)
        try:
            with record_function(name):
                yield
        finally:
            self.leave()


def _modules(stage: Stage) -> dict[str, list[nn.Module]]:
    """The modules whose forward passes are phases of their own."""
    model = stage.codec.autoencoder
    found: dict[str, list[Any]] = {
        "encoder": [model.encoder],
        "quantiser": [model.quantiser],
        "decoder": [model.decoder],
        "transform": [stage.codec.transform],
        "LPIPS": stage.perceptual_networks,
        "code prediction": [getattr(stage, "predictor", None), getattr(stage, "pixel_predictor", None)],
    }
    return {name: [module for module in modules if module is not None] for name, modules in found.items()}


class StepProfiler(Profiler):
    """A Lightning profiler that measures some steps of a stage and writes `profile.txt`.

    After a warm-up it times the phases of `steps` batches, then runs as many under torch's profiler for the operators,
    which slows them down. Validation, checkpoints and logs between the steps are left out.

    Args:
        folder: for the report.
        stage: prepared; it gets the clock, and its modules hooks.
        steps: batches to measure; half as many, at most 5, warm up.
    """

    def __init__(self, folder: Path, stage: Stage, steps: int = 10) -> None:
        super().__init__()
        if steps < 1:
            raise TrainingError(f"profile={steps}: give true, false or a positive number of steps")
        self.folder = folder
        self.stage = stage
        self.warmup = min(5, max(1, steps // 2))
        self.steps = steps
        self.clock = PhaseClock(torch.device("cpu"))
        self.batches = 0
        self.done = False
        self._operators: torch.profiler.profile | None = None
        self._hooks = [hook for name, group in _modules(stage).items() for m in group for hook in self._label(name, m)]
        stage.phase = self.clock.phase

    def _label(self, name: str, module: nn.Module) -> list[Any]:
        def enter(*_: Any) -> None:
            self.clock.enter(name)

        def leave(*_: Any) -> None:
            self.clock.leave()

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]

    def start(self, action_name: str) -> None:
        """Begins the phase of an action that is of interest."""
        if self.done:
            return
        if action_name.endswith(_DATA):
            self.clock.running = self.warmup <= self.batches < self.warmup + self.steps
            self.clock.enter("data")
        elif action_name == _BATCH:
            self.clock.device = self.stage.device
            self.clock.enter("other")

    def stop(self, action_name: str) -> None:
        """Ends it; after the last step writes the report."""
        if self.done:
            return
        if action_name.endswith(_DATA):
            self.clock.leave()
        elif action_name == _BATCH:
            self.clock.leave()
            self.clock.running = False  # what comes between the steps is not theirs
            self.batches += 1
            if self.batches == self.warmup + self.steps:
                activities = [ProfilerActivity.CPU]
                activities += [ProfilerActivity.CUDA] if self.stage.device.type == "cuda" else []
                self._operators = torch.profiler.profile(activities=activities, acc_events=True)
                self._operators.start()
            elif self.batches == self.warmup + 2 * self.steps:
                self._finish()

    def describe(self) -> None:
        """Called at the end of the training: reports what there is of a stage that ended early."""
        if not self.done:
            self._finish()

    def _finish(self) -> None:
        self.done = True
        if self._operators is not None:
            self._operators.stop()
        for hook in self._hooks:
            hook.remove()
        self.stage.phase = record_function
        if self.batches <= self.warmup:
            log.warning("nothing was profiled: the stage ended within the %d batches of warm-up", self.warmup)
        elif self.stage.global_rank == 0:
            report = self.report()
            write_text(self.folder / REPORT, report)
            print(report, end="", flush=True)

    def report(self) -> str:
        """Phases, then operators, as text."""
        steps = min(self.batches - self.warmup, self.steps)
        total = sum(self.clock.seconds.values())
        lines = [
            f"{type(self.stage).__name__}: {1000 * total / steps:.1f} ms a batch, mean of {steps} after "
            f"{self.warmup} of warm-up; {hardware(str(self.stage.device))}",
            "",
            f"{'phase':16} {'ms/batch':>9} {'share':>6}",
        ]
        for name in sorted(self.clock.seconds, key=lambda n: _ORDER.index(n) if n in _ORDER else len(_ORDER)):
            seconds = self.clock.seconds[name]
            lines.append(f"{name:16} {1000 * seconds / steps:9.1f} {seconds / total:6.1%}")
        lines += ["", *self._operator_lines(self.batches - self.warmup - self.steps)]
        return "\n".join(lines) + "\n"

    def _operator_lines(self, steps: int, rows: int = 15) -> list[str]:
        if self._operators is None or steps < 1:
            return ["operators: not measured, the stage ended too early"]
        on_gpu = self.stage.device.type == "cuda"

        def own(event: Any) -> float:
            return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)

        events = [event for event in self._operators.key_averages() if not event.is_user_annotation]
        total = sum(own(event) for event in events)
        lines = [f"{'operator, without those that it calls':50} {'calls/batch':>11} {'ms/batch':>9} {'share':>6}"]
        for event in sorted(events, key=own, reverse=True)[:rows]:
            share = own(event) / total if total else 0.0
            lines.append(
                f"{event.key[:50]:50} {event.count / steps:11.1f} {own(event) / 1000 / steps:9.1f} {share:6.1%}"
            )
        return lines
