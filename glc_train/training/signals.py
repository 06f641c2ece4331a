"""Signals that end a training: noted, so that the step at hand ends and a checkpoint is written first."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import NoReturn

from lightning import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

from glc_train import interruption

_IMPATIENT = 1.0  # seconds after which Ctrl-C again means at once; launchers pass one on within less


class Interrupted(SystemExit):
    """Training was ended by a signal; `code` is what the process exits with, 128 + the signal's number."""


def unwind() -> None:
    """Lets the signals raise `Interrupted`; Lightning would take a KeyboardInterrupt for a failure, exit code 1."""
    interruption.install(_unwind)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(128 + number)


class Signals:
    """Notes the signals once `listen` is called; Ctrl-C a second time ends at once.

    Attributes:
        received: number of the first one that came; 0: none yet.
    """

    def __init__(self) -> None:
        self.received = 0
        self._at = 0.0

    def listen(self) -> None:
        """Takes the signals over from whoever has them."""
        interruption.install(self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._at = number, now
        elif number == signal.SIGINT and now - self._at > _IMPATIENT:
            raise Interrupted(128 + number)


def exit_code(number: int, trainer: Trainer) -> int:
    """What a rank exits with after a signal: 0 where Lightning on rank 0 started it, and would kill all else."""
    launched = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    return 0 if launched and trainer.local_rank else 128 + number
