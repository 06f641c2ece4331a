"""Data without a single batch, which would start anew for ever."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from glc_train.training.stage import Stage, TrainingError


class RefuseEmptyEpochs(Callback):
    """Finite data start again until a stage has trained its steps; without a batch they never would."""

    def __init__(self) -> None:
        self._step = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the epoch begins."""
        assert isinstance(pl_module, Stage)
        self._step = pl_module.train_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares.

        Raises:
            TrainingError: there was no batch.
        """
        assert isinstance(pl_module, Stage)
        if pl_module.train_step == self._step and not trainer.should_stop:
            raise TrainingError("data: the training data gave no batch")
