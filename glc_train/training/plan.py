"""What a run is about to do, said before its first step, and how long it takes, said after a few."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from glc_train.training.settings import StageSettings
from glc_train.training.stage import Stage

log = logging.getLogger(__name__)
MANY_STEPS = 50_000  # hours on a GPU, days to weeks on a processor
FEW_PICTURES = 100
_TIMED = (3, 13)  # the first steps are slower


def pictures_of(source: Any) -> int | None:
    """Number of pictures or clips behind a source of crops; None where that is not known, as of rendered ones."""
    if hasattr(source, "sources"):
        counts = [count for count in map(pictures_of, source.sources) if count is not None]
        return sum(counts) if counts else None
    paths = getattr(source, "paths", None)
    return None if paths is None else len(paths)


def duration(seconds: float) -> str:
    """In words, to about two digits."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} seconds"


class SayPlan(Callback):
    """Logs the plan before the first step of a stage, and when a few steps have been timed what they predict.

    Args:
        name: of the stage.
        stages: the settings of this and all later stages of the run, by name.
        sections: their sections of the configuration.
        first: whether the stage is the first to be trained, which says the whole plan.
    """

    def __init__(self, name: str, stages: Mapping[str, StageSettings], sections: DictConfig, first: bool) -> None:
        self.name = name
        self.stages = stages
        self.sections = sections
        self.first = first
        self._clock: tuple[int, float] | None = None
        self._began: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says the plan."""
        assert isinstance(pl_module, Stage)
        self._began = pl_module.train_step
        if not self.first or not trainer.is_global_zero:
            return
        codec, data = pl_module.codec, getattr(trainer, "datamodule", None)
        millions = sum(p.numel() for p in codec.parameters()) / 1e6
        pictures = pictures_of(getattr(data, "source", None))
        shown = "" if pictures is None else f" with {pictures:,} training files"
        log.info(
            "plan: %s of %.1f M parameters; %s%s; %s, %s, %d process%s",
            type(codec).__name__, millions, type(data).__name__, shown, trainer.strategy.root_device, trainer.precision,
            trainer.world_size, "" if trainer.world_size == 1 else "es",
        )  # fmt: skip
        for name, settings in self.stages.items():
            section = self.sections[name]
            limit = "" if settings.minutes is None else f", at most {settings.minutes:g} minutes"
            size = f"{section.get('batch_size')} samples of {section.get('crop_size')} pixels a side"
            log.info("plan: stage %s, %s steps%s, %s", name, f"{settings.steps:,}", limit, size)
        self._warn(pictures, trainer.strategy.root_device.type)

    def _warn(self, pictures: int | None, device: str) -> None:
        long = {n: s.steps for n, s in self.stages.items() if s.minutes is None and s.steps > MANY_STEPS}
        if not long or (device != "cpu" and (pictures is None or pictures >= FEW_PICTURES)):
            return
        name = next(iter(long))
        what = "endless data" if pictures is None else f"{pictures:,} training files"
        log.warning(
            "plan: %s steps on %s with %s may take weeks: give data=folder data.train.root=FOLDER for pictures of your "
            "own, stages.%s.minutes=30 for a limit, or experiment=glc_image_tiny for a first look",
            f"{sum(long.values()):,}", device, what, name,
        )  # fmt: skip

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Says what the first timed steps predict."""
        assert isinstance(pl_module, Stage)
        assert self._began is not None
        step = pl_module.train_step
        if step - self._began == _TIMED[0]:
            self._clock = step, time.monotonic()
        if self._clock is None or step - self._began != _TIMED[1] or not trainer.is_global_zero:
            return
        each = (time.monotonic() - self._clock[1]) / (step - self._clock[0])
        settings = pl_module.settings
        left = (settings.until * settings.steps - step) * each
        if settings.minutes is not None:
            left = min(left, settings.until * settings.minutes * 60 - pl_module.seconds)
        log.info("stage %s: %.2g s a step, about %s to go without validation", self.name, each, duration(max(0, left)))
