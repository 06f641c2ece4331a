"""Training: one LightningModule per stage, and the recipe that runs them in order."""

from glc_train.training.checkpoint import KeepBest, KeepLast
from glc_train.training.codebook import CodebookSettings, CodebookWatch
from glc_train.training.distributed import Draws, GradientAveraging
from glc_train.training.logs import LogError, read_curve
from glc_train.training.panel import Panel
from glc_train.training.pixel_stage import PictureLoss, PixelStage
from glc_train.training.progress_bar import StageProgressBar
from glc_train.training.recipe import run_recipe
from glc_train.training.schedule import WarmupCosine
from glc_train.training.settings import StageSettings
from glc_train.training.sharding import Sharding
from glc_train.training.signals import Interrupted, unwind
from glc_train.training.stage import Losses, Stage, TrainingError
from glc_train.training.stages import AutoencoderStage, JointStage, TransformStage
from glc_train.training.sweep_job import as_single_run, claim_job_folder, launchable, read_objective
from glc_train.training.validation import Decoded, Scored
from glc_train.training.video_stages import ClipSettings, VideoPixelStage, VideoStage

__all__ = [
    "AutoencoderStage",
    "ClipSettings",
    "CodebookSettings",
    "CodebookWatch",
    "Decoded",
    "Draws",
    "GradientAveraging",
    "Interrupted",
    "JointStage",
    "KeepBest",
    "KeepLast",
    "LogError",
    "Losses",
    "Panel",
    "PictureLoss",
    "PixelStage",
    "Scored",
    "Sharding",
    "Stage",
    "StageProgressBar",
    "StageSettings",
    "TrainingError",
    "TransformStage",
    "VideoPixelStage",
    "VideoStage",
    "WarmupCosine",
    "as_single_run",
    "claim_job_folder",
    "launchable",
    "read_curve",
    "read_objective",
    "run_recipe",
    "unwind",
]
