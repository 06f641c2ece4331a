"""Metrics that callbacks watch and nobody logs: best.ckpt would never come, and nothing would say why."""

import logging

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)


class SayUnlogged(Callback):
    """After the first validation of a stage, names the callbacks whose metric the stage does not log."""

    def __init__(self) -> None:
        self._said = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares what is watched with what has been logged."""
        if self._said or trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._said = True
        logged = trainer.callback_metrics
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # which Lightning does not declare
            monitor = getattr(callback, "monitor", None)
            if monitor is not None and monitor not in logged:
                log.warning(
                    "%s watches %s, which this stage does not log, and so does nothing in it; it logs %s",
                    type(callback).__name__, monitor, ", ".join(sorted(name for name in logged if name[:4] == "val/")),
                )  # fmt: skip
