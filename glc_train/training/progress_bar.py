"""Progress bar whose time left also holds for stages that are limited in minutes."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from glc_train.training.stage import Stage


class StageProgressBar(RichProgressBar):
    """Shows steps, speed and the time left until the stage's steps or minutes are used up, whichever is first."""

    @property
    def total_train_batches(self) -> int:
        """Steps of the whole stage; the loader itself never ends, which would show no time left."""
        assert isinstance(self.trainer.lightning_module, Stage)
        return self.trainer.lightning_module.settings.steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Estimates the total from the share that is done."""
        assert isinstance(pl_module, Stage)
        if self.progress is not None and self.train_progress_bar_id is not None and pl_module.progress > 0:
            total = round(pl_module.train_step / pl_module.progress)
            shown = self.progress.tasks[self.train_progress_bar_id].total or 1
            # A new total makes the bar forget its speed, so it is set only where it tells something.
            if abs(total - shown) > 0.05 * shown or pl_module.progress >= 1:
                self.progress.update(self.train_progress_bar_id, total=total)
        done = pl_module.train_step - 1  # over all epochs, which finite data have several of
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done)

    def _get_train_description(self, current_epoch: int) -> str:
        description = super()._get_train_description(current_epoch)
        # A stage ends with its steps, so that there is no last epoch; Lightning shows "Epoch 0/-2".
        return description if self.trainer.max_epochs != -1 else description.replace("/-2", "  ")
