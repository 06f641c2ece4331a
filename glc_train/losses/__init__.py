"""What training minimises."""

from glc_train.losses.adversarial import Adversary, GeneratorGradient, without_margin
from glc_train.losses.code_prediction import CodePredictor
from glc_train.losses.dists_reference import DistsLoss, DistsReference
from glc_train.losses.perceptual import PerceptualLoss, style_loss
from glc_train.losses.projected import ProjectedDiscriminator
from glc_train.losses.rate import RateWeights
from glc_train.losses.vector_quantisation import BetaPlacement, vq_loss

__all__ = [
    "Adversary",
    "BetaPlacement",
    "CodePredictor",
    "DistsLoss",
    "DistsReference",
    "GeneratorGradient",
    "PerceptualLoss",
    "ProjectedDiscriminator",
    "RateWeights",
    "style_loss",
    "vq_loss",
    "without_margin",
]
