"""The model card and the configuration that lie beside exported weights."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from glc_train import provenance
from glc_train.files import write_text
from glc_train.training.stage import Stage

CARD = "model_card.md"
CONFIG = "config.yaml"


def training_command() -> str:
    """The command that gave this configuration: Hydra's overrides where it runs, else this process's arguments."""
    if HydraConfig.initialized():
        return shlex.join(["python", "train.py", *HydraConfig.get().overrides.task])
    return provenance.command()


@dataclass(frozen=True)
class TrainingFacts:
    """What a model card says.

    Attributes:
        stage: class of the stage.
        config: the composed configuration.
        steps: training steps.
        minutes: of training, over all runs.
        skipped_steps: whose gradient was not finite.
        crops: training crops seen, of `crop_size` pixels a side; of clips, `frames` frames each.
        parameters: of the codec.
        validation: last figures of the averaged weights on the validation pictures; empty if there was no validation.
        start: the weights that the stage started from, as `record.read_start` gives them.
        precision: of the training arithmetic.
        hardware: in words.
        processes: that trained together.
    """

    stage: str
    config: DictConfig
    steps: int
    minutes: float
    skipped_steps: int
    crops: int
    crop_size: int
    parameters: int
    validation: Mapping[str, float]
    precision: str
    hardware: str
    processes: int = 1
    frames: int | None = None
    start: Mapping[str, Any] = field(default_factory=dict)
    command: str = field(default_factory=training_command)
    commit: str | None = field(default_factory=provenance.commit)
    date: str = field(default_factory=provenance.now)
    torch: str = str(torch.__version__)


def _rows(facts: TrainingFacts) -> list[tuple[str, str]]:
    return [
        ("stage", facts.stage),
        ("parameters", f"{facts.parameters:,}"),
        ("training steps", f"{facts.steps:,} ({facts.skipped_steps} skipped: gradient not finite)"),
        ("minutes of training", f"{facts.minutes:.1f}"),
        ("crops seen" if facts.frames is None else "clips seen", _seen(facts)),
        ("precision", facts.precision),
        ("hardware", f"{facts.hardware}; {facts.processes} process{'es' if facts.processes > 1 else ''}"),
        ("PyTorch", facts.torch),
        ("commit", facts.commit or "not in a git checkout"),
        ("date", facts.date),
        ("starts from", _origin(facts.start)),
    ]


def _seen(facts: TrainingFacts) -> str:
    frames = "" if facts.frames is None else f"{facts.frames} frames of "
    return f"{facts.crops:,} of {frames}{facts.crop_size}×{facts.crop_size} pixels"


def _origin(start: Mapping[str, Any]) -> str:
    if not start.get("weights"):
        return "fresh weights" if start else "not recorded"
    return f"{start['weights']} (SHA-256 {start['sha256'][:16]})"


def card(facts: TrainingFacts) -> str:
    """The model card as Markdown."""
    data = OmegaConf.to_yaml(facts.config.data, resolve=True).rstrip()
    validation = "No validation took place in the process that exported the weights."
    if facts.validation:
        cells = "\n".join(f"| {name} | {value:.5g} |" for name, value in sorted(facts.validation.items()))
        validation = (
            f"Averaged (EMA) weights; rates are the model's estimates.\n\n| figure | value |\n|---|---|\n{cells}"
        )
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(facts))
    image = facts.frames is None
    kind, usage = ("image", "PICTURE picture.glc") if image else ("video", "CLIP clip.glcv")
    return f"""# {facts.config.get("name", "run")}, {facts.stage}

A GLC {kind} codec at the end of one stage of training. `{CONFIG}` beside this file is the whole configuration.

```bash
{facts.command}
glc compress {usage} --weights weights.safetensors
```

| training | |
|---|---|
{rows}

## Data

```yaml
{data}
```

## Validation

{validation}

## Limits

At these rates small text, faces and textures are invented rather than kept: decoded pictures are no evidence. The
weights know only what the training data shows. A stage before the last one is not meant for files.
"""


def training_facts(
    stage: Stage, trainer: Trainer, config: DictConfig, name: str, start: Mapping[str, Any]
) -> TrainingFacts:
    """Facts of a stage that has just been trained.

    Args:
        stage: with its counters.
        trainer: that trained it.
        config: the composed configuration.
        name: of the stage in it.
        start: see `TrainingFacts`.
    """
    section = config.stages[name]
    return TrainingFacts(
        stage=type(stage).__name__,
        config=config,
        steps=stage.train_step,
        minutes=stage.seconds / 60,
        skipped_steps=int(stage.bad_steps),
        crops=stage.train_step * section.batch_size * stage.settings.accumulate * trainer.world_size,
        crop_size=section.crop_size,
        parameters=sum(p.numel() for p in stage.codec.parameters()),
        validation={k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")},
        precision=str(trainer.precision),
        hardware=provenance.hardware(str(trainer.strategy.root_device)),
        processes=trainer.world_size,
        frames=section.get("frames"),
        start=start,
    )


def write_model_card(folder: Path, facts: TrainingFacts) -> None:
    """Writes `model_card.md` and `config.yaml` into `folder`, each whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    write_text(folder / CONFIG, OmegaConf.to_yaml(facts.config, resolve=True))
    write_text(folder / CARD, card(facts))
