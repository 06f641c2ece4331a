"""Training: one LightningModule per stage, and the recipe that runs them in order."""

from glc_train.training.checkpoint import KeepLast
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws, GradientAveraging
from glc_train.training.prior import fit_z_prior
from glc_train.training.recipe import run_recipe
from glc_train.training.schedule import WarmupCosine
from glc_train.training.stage import Losses, Stage, StageSettings, TrainingError
from glc_train.training.stages import AutoencoderStage, JointStage, PictureLoss, TransformStage
from glc_train.training.validation import Validate

__all__ = [
    "AutoencoderStage",
    "CodebookSettings",
    "CodebookWatch",
    "Draws",
    "GradientAveraging",
    "JointStage",
    "KeepLast",
    "Losses",
    "PictureLoss",
    "Stage",
    "StageSettings",
    "TrainingError",
    "TransformStage",
    "Validate",
    "WarmupCosine",
    "fit_z_prior",
    "run_recipe",
]
