"""Checkpoints: written whole or not at all, the newest sound one to go on from, one more before the process ends."""

import logging
import os
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from glc_train.files import discard, replacing
from glc_train.pickles import read_pickle
from glc_train.training.distributed import largest
from glc_train.training.signals import Interrupted, Signals, exit_code
from glc_train.training.stage import Stage, TrainingError

log = logging.getLogger(__name__)
LAST = "last.ckpt"
BEST = "best.ckpt"  # as conf/callbacks/best.yaml calls it
PREVIOUS = "previous.ckpt"
_DAMAGED = "damaged.ckpt"


def newest_sound(folder: Path, tidy: bool) -> Path | None:
    """The checkpoint in `folder` to go on from, `last.ckpt` or else `previous.ckpt`; None: there is none.

    Every byte is read and checked. A damaged one is named in the log.

    Args:
        folder: of a stage.
        tidy: set a damaged one aside as `damaged.ckpt`, so that no sound one makes room for it.

    Raises:
        TrainingError: there are checkpoints, but all are damaged. OSError: one cannot be read.
    """
    damaged: list[Path] = []
    for path in (folder / LAST, folder / PREVIOUS):
        try:
            sound = _is_sound(path)
        except FileNotFoundError:
            continue
        if sound:
            if damaged:
                log.warning("%s: damaged; going on from %s", ", ".join(map(str, damaged)), path)
                if tidy:
                    os.replace(damaged[0], folder / _DAMAGED)
            return path
        damaged.append(path)
    if damaged:
        raise TrainingError(
            f"{' and '.join(map(str, damaged))}: damaged, and there is no other checkpoint to go on from; move "
            f"{'them' if damaged[1:] else 'it'} away to train the stage from its start"
        )
    return None


def _is_sound(path: Path) -> bool:
    """Whether a checkpoint is whole. Raises OSError if it cannot be opened."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # what torch.save writes, with a checksum of each part
                whole = archive.testzip() is None
            read_pickle(path, mmap=True)  # looks at what surrounds the parts
        except Exception:  # each of a dozen kinds tells of some damage
            return False
    return whole


def checkpoint_problem(error: Exception, path: Path | None) -> str | None:
    """What to do about an error that the checkpoint at `path` gives, in one sentence; None for other errors."""
    if path is None or not any(words in str(error) for words in ("loading state_dict", "loaded state dict")):
        return None
    return f"{path} was written with another configuration: give another name= (or out=), or move it away"


def clear_leftovers(folder: Path) -> None:
    """Removes what processes that were killed while writing have left in `folder` of a stage; no other may be alive."""
    for path in folder.rglob(".writing-*"):
        discard(path)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints beside where they go, not by way of `$TMPDIR`; the old `last.ckpt` becomes `previous.ckpt`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes `checkpoint`; whenever the process or the machine stops, a sound file is there.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(path)
        with replacing(path) as temporary:
            _write_durably(checkpoint, temporary, path)
            if path.name == LAST and path.exists():
                os.replace(path, path.with_name(PREVIOUS))


def _write_durably(checkpoint: dict[str, Any], temporary: Path, path: Path) -> None:
    with open(temporary, "wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch.save hides the cause behind one of its own
            if isinstance(error.__context__, OSError):
                raise OSError(error.__context__.errno, error.__context__.strerror, str(path)) from error
            raise
        file.flush()
        os.fsync(file.fileno())


class KeepLast(Checkpoint):
    """Writes `last.ckpt` every few minutes or steps, and when a signal ends the process.

    The one before stays as `previous.ckpt`. After a signal training stops when the step at hand is done, validation at
    the next picture; a validation that is due or under way is left out.

    Args:
        folder: where they go.
        minutes, steps: whichever comes first; None switches one off.
    """

    def __init__(self, folder: Path, minutes: float | None = 5.0, steps: int | None = None) -> None:
        self.folder = folder
        self.minutes = minutes
        self.steps = steps
        self._saved_at = time.monotonic()
        self._signals = Signals()
        self._ended_by = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the signals; Lightning, whose own handlers do not save, gives them back at the end."""
        self._signals.listen()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Saves when it is time."""
        assert isinstance(pl_module, Stage)
        late = self.minutes is not None and time.monotonic() - self._saved_at > 60 * self.minutes
        late, ended_by = self._agree(late)
        # The last step is saved from within the loop: such a checkpoint can be resumed with more steps.
        done = pl_module.progress >= 1.0
        if done or late or ended_by or (self.steps is not None and pl_module.train_step % self.steps == 0):
            self.save(trainer)
            if ended_by:
                self._say(trainer, ended_by)
                self._ended_by = ended_by
                trainer.should_stop = True
                trainer.limit_val_batches = 0  # stopping asks for a validation, which would outlast the time left

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where something else ends training before the stage is done."""
        assert isinstance(pl_module, Stage)
        last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
        if (trainer.should_stop or last_epoch) and pl_module.progress < 1.0 and not self._ended_by:
            self.save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves where a signal ends the process."""
        ended_by = self._agree(False)[1]
        if ended_by:
            self.save(trainer)
            self._say(trainer, ended_by)
            raise Interrupted(exit_code(ended_by, trainer))

    def finish(self, trainer: Trainer) -> None:
        """To be called when fitting has come to its end.

        Raises:
            Interrupted: a signal did that.
        """
        if self._ended_by:
            raise Interrupted(exit_code(self._ended_by, trainer))

    def save(self, trainer: Trainer) -> None:
        """Saves now."""
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.monotonic()

    def _agree(self, late: bool) -> tuple[bool, int]:
        """Whether it is late on any rank, and the signal that any has received; every rank takes part."""
        any_late, received = largest([int(late), self._signals.received])
        return bool(any_late), received

    def _say(self, trainer: Trainer, ended_by: int) -> None:
        if trainer.is_global_zero:
            name = signal.Signals(ended_by).name
            log.warning("%s: saved %s, from which the same command goes on", name, self.folder / LAST)


class KeepBest(ModelCheckpoint):
    """Lightning's checkpoint with the best value of a metric; stages that do not log it keep none."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where the metric is better than ever."""
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Likewise, where validation goes by epochs."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)
