"""Precision of training in Lightning's words, chosen by the device."""

from typing import Any

import torch
from omegaconf import DictConfig

from glc_train.precision import AUTO, resolve


def trainer_precision(trainer: DictConfig) -> Any:
    """What Lightning is to get as `precision`: "auto" resolved, anything else as it is.

    Never float16 by itself: the discriminator's adaptive weight differentiates losses that the scaler does not scale.

    Args:
        trainer: configuration of the Trainer.
    """
    asked, device = trainer.get("precision"), _device(str(trainer.get("accelerator", AUTO)))
    if asked == AUTO:
        return "bf16-mixed" if resolve(AUTO, device) == torch.bfloat16 else "32-true"
    # On processors Lightning takes bfloat16 where float16 is asked for.
    if "bf16" in str(asked) or (device == "cpu" and str(asked) in ("16", "16-mixed")):
        resolve(torch.bfloat16, device)  # says where it is slow
    return asked


def _device(accelerator: str) -> str:
    if accelerator in ("cpu", "cuda", "mps"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
