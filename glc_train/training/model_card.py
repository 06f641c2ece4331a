"""The model card and the configuration that lie beside exported weights."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
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


def _rows(stage: Stage, section: DictConfig, start: Mapping[str, Any]) -> dict[str, str]:
    """The table of the training."""
    trainer = stage.trainer
    seen = stage.train_step * section.batch_size * stage.settings.accumulate * trainer.world_size
    frames = section.get("frames")
    size = f"{section.crop_size}×{section.crop_size} pixels"
    hardware = provenance.hardware(str(trainer.strategy.root_device))
    return {
        "stage": type(stage).__name__,
        "parameters": f"{sum(p.numel() for p in stage.codec.parameters()):,}",
        "training steps": f"{stage.train_step:,} ({int(stage.bad_steps)} skipped: gradient not finite)",
        "minutes of training": f"{stage.seconds / 60:.1f}",
        "crops seen" if frames is None else "clips seen": (
            f"{seen:,} of {size}" if frames is None else f"{seen:,} of {frames} frames of {size}"
        ),
        "precision": str(trainer.precision),
        "hardware": f"{hardware}; {trainer.world_size} process{'es' if trainer.world_size > 1 else ''}",
        "PyTorch": str(torch.__version__),
        "commit": provenance.commit() or "not in a git checkout",
        "date": provenance.now(),
        "starts from": _origin(start),
    }


def _origin(start: Mapping[str, Any]) -> str:
    if not start.get("weights"):
        return "fresh weights" if start else "not recorded"
    return f"{start['weights']} (SHA-256 {start['sha256'][:16]})"


def _validation(stage: Stage) -> str:
    """The last figures of the averaged weights on the validation pictures."""
    figures = {k: float(v) for k, v in sorted(stage.trainer.callback_metrics.items()) if k.startswith("val/")}
    if not figures:
        return "No validation took place in the process that exported the weights."
    cells = "\n".join(f"| {name} | {value:.5g} |" for name, value in figures.items())
    return f"Averaged (EMA) weights; rates are the model's estimates.\n\n| figure | value |\n|---|---|\n{cells}"


def card(stage: Stage, config: DictConfig, name: str, start: Mapping[str, Any]) -> str:
    """The model card as Markdown; arguments as of `write_model_card`."""
    section = config.stages[name]
    data = OmegaConf.to_yaml(config.data, resolve=True).rstrip()
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(stage, section, start).items())
    image = section.get("frames") is None
    kind, usage = ("image", "PICTURE picture.glc") if image else ("video", "CLIP clip.glcv")
    return f"""# {config.get("name", "run")}, {type(stage).__name__}

A GLC {kind} codec at the end of one stage of training. `{CONFIG}` beside this file is the whole configuration.

```bash
{training_command()}
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

{_validation(stage)}

## Limits

At these rates small text, faces and textures are invented rather than kept: decoded pictures are no evidence. The
weights know only what the training data shows. A stage before the last one is not meant for files.
"""


def write_model_card(folder: Path, stage: Stage, config: DictConfig, name: str, start: Mapping[str, Any]) -> None:
    """Writes `model_card.md` and `config.yaml` into `folder`, each whole or not at all.

    Args:
        folder: of the stage.
        stage: that has just been trained.
        config: the composed configuration.
        name: of the stage in it.
        start: the weights that it started from, as `record.read_start` gives them.

    Raises:
        OSError: the folder cannot be written.
    """
    write_text(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))
    write_text(folder / CARD, card(stage, config, name, start))
