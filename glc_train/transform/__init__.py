"""Latent ⇄ y, z ⇄ symbols, tensors only."""

from glc_train.transform.gaussian import SCALE_MIN, gaussian_bits, published_gaussian_bits
from glc_train.transform.hyper_prior import FactorisedGaussian, categorical_bits
from glc_train.transform.image import Encoded, ImageTransform, LatentDecoder, TransformOutput
from glc_train.transform.indices import IndexTransform
from glc_train.transform.modules import (
    FourPartContext,
    GainTransform,
    HyperSynthesis,
    PriorParameters,
    split_parameters,
)
from glc_train.transform.partition import checkerboard_masks, four_part_masks
from glc_train.transform.passes import QuantiseStep, Rounding, SymbolStep, ZeroStep, choose_symbols, run_passes
from glc_train.transform.video import FrameContext, FrameDecoder, FrameTransformOutput, VideoTransform

__all__ = [
    "SCALE_MIN",
    "Encoded",
    "FactorisedGaussian",
    "FourPartContext",
    "FrameContext",
    "FrameDecoder",
    "FrameTransformOutput",
    "GainTransform",
    "HyperSynthesis",
    "ImageTransform",
    "IndexTransform",
    "LatentDecoder",
    "PriorParameters",
    "QuantiseStep",
    "Rounding",
    "SymbolStep",
    "TransformOutput",
    "VideoTransform",
    "ZeroStep",
    "categorical_bits",
    "checkerboard_masks",
    "choose_symbols",
    "four_part_masks",
    "gaussian_bits",
    "published_gaussian_bits",
    "run_passes",
    "split_parameters",
]
