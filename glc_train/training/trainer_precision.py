"""Precision of training in Lightning's words, chosen by the device."""

import logging
from typing import Any

import torch
from omegaconf import DictConfig

from glc_train.precision import AUTO, resolve
from glc_train.training.stage import TrainingError

log = logging.getLogger(__name__)
_KNOWN = ("32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")  # as Lightning spells them


def trainer_precision(trainer: DictConfig) -> Any:
    """What Lightning is to get as `precision`: "auto" resolved, anything else as it is; what is unwise is a warning.

    GPUs without bfloat16 get float32. In float16 the gradient at the picture, which a discriminator's adaptive weight
    takes without the scaler, underflows: of LPIPS on 8 crops of 256 pixels a seventh is left, in other directions.

    Args:
        trainer: configuration of the Trainer.

    Raises:
        TrainingError: the weights would not be float32, as averages, codebooks and counters have to be, or there is no
            such precision.
    """
    asked, device = trainer.get("precision"), _device(str(trainer.get("accelerator", AUTO)))
    if asked == AUTO:
        return "bf16-mixed" if resolve(AUTO, device) == torch.bfloat16 else "32-true"
    if asked is not None and str(asked) not in _KNOWN:
        raise TrainingError(
            f"trainer.precision={asked}: weights, averages and codebooks are trained in float32; give {AUTO}, 32-true, "
            "bf16-mixed or 16-mixed"
        )
    half = str(asked) in ("16", "16-mixed")
    # On processors Lightning takes bf16-mixed where 16-mixed is asked for.
    if "bf16" in str(asked) or (half and device == "cpu"):
        resolve(torch.bfloat16, device)  # says where it is slow
    elif half:
        log.warning("float16 loses gradients of stages with a discriminator; trainer.precision=auto loses none")
    return asked


def _device(accelerator: str) -> str:
    if accelerator in ("cpu", "cuda", "mps"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
