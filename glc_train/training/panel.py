"""A picture of the validation: originals and what was decoded, side by side."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from glc_train.codecs import spread_qualities
from glc_train.data import draw_panel
from glc_train.media.pictures import write_picture
from glc_train.pixels import tensor_to_picture
from glc_train.training.stage import Stage
from glc_train.training.validation import Scored


class Panel(Callback):
    """Writes `panels/step_00001000.png` at each validation, and gives it to the loggers; rank 0 draws its own share.

    Args:
        folder: of the stage.
        pictures: pictures or clips of the panel.
        frames: at most this many frames of each clip, the first and the last among them.
    """

    def __init__(self, folder: Path, pictures: int = 3, frames: int = 3) -> None:
        self.folder = folder
        self.pictures = pictures
        self.frames = frames
        self._rows: list[list[tuple[np.ndarray, str]]] = []
        self._drawn = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the last validation."""
        self._rows, self._drawn = [], 0

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Takes up what `Stage.validation_step` has decoded."""
        if not trainer.is_global_zero:
            return
        for originals, ways in outputs["scored"][: self.pictures - self._drawn]:
            self._drawn += 1
            self._rows += [self._row(originals, ways, t) for t in spread_qualities(len(originals), self.frames)]

    def _row(self, originals: Tensor, ways: list[Scored], t: int) -> list[tuple[np.ndarray, str]]:
        """Cells of frame t of originals (T, 3, H, W)."""
        row = [(tensor_to_picture(originals[t : t + 1]), f"original {t}" if len(originals) > 1 else "original")]
        for way in ways:
            score = "" if way.lpips is None else f" LPIPS {float(way.lpips[t]):.3f}"
            row.append((tensor_to_picture(way.x_hat[t : t + 1]), f"{way.name}: {float(way.bpp[t]):.4f} bpp{score}"))
        return row

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the panel."""
        assert isinstance(pl_module, Stage)
        if trainer.sanity_checking or not self._rows:
            return
        panel, step = draw_panel(self._rows), pl_module.train_step
        folder = self.folder / "panels"
        folder.mkdir(parents=True, exist_ok=True)
        write_picture(folder / f"step_{step:08d}.png", panel)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("panel", panel, step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image("panel", [panel], step=step)
