"""More time for better pictures at the same bytes: the encoder's choice refined, the decoder as it is."""

from glc_train.effort.distortion import Distortion, PerceptualMixture
from glc_train.effort.refiner import HIGHEST_EFFORT, STEPS, Clock, Refiner
from glc_train.effort.target import Target, of_frame, of_picture

__all__ = [
    "HIGHEST_EFFORT",
    "STEPS",
    "Clock",
    "Distortion",
    "PerceptualMixture",
    "Refiner",
    "Target",
    "of_frame",
    "of_picture",
]
