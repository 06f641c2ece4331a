"""The checkpoint a killed run goes on from."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from glc_train.training.distributed import from_rank_zero
from glc_train.training.stage import Stage


class KeepLast(Callback):
    """Writes `last.ckpt` every so many minutes or steps; the one before stays as `previous.ckpt`.

    Written under a temporary name first, so that both are whole whenever the process dies.

    Args:
        folder: where they go.
        minutes, steps: whichever comes first; None switches one off.
    """

    def __init__(self, folder: Path, minutes: float | None = 5.0, steps: int | None = None) -> None:
        self.folder = folder
        self.minutes = minutes
        self.steps = steps
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time."""
        assert isinstance(pl_module, Stage)
        late = self.minutes is not None and time.monotonic() - self._saved_at > 60 * self.minutes
        if self.minutes is not None:
            # Clocks differ between ranks, and every rank takes part in saving: rank 0 decides.
            late = bool(from_rank_zero(torch.tensor(float(late), device=pl_module.device)))
        # The last step is saved from within the loop: such a checkpoint can be gone on from with more steps.
        done = pl_module.progress >= 1.0
        if done or late or (self.steps is not None and int(pl_module.train_step) % self.steps == 0):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Saves now."""
        last, previous = self.folder / "last.ckpt", self.folder / "previous.ckpt"
        temporary = self.folder / "saving.ckpt.tmp"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            if last.exists():
                os.replace(last, previous)
            os.replace(temporary, last)
        self._saved_at = time.monotonic()
