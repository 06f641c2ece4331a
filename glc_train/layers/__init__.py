"""Blocks without codec meaning: convolutions, attention, rounding, vector quantisation, exact arithmetic."""

from glc_train.layers.attention import SpatialAttention, undecided
from glc_train.layers.blocks import (
    AdditiveFFN,
    DepthConv,
    GatedDepthConv,
    GatedFFN,
    Grid,
    Up2,
    WeightedMean,
    block_a,
    block_b,
    block_c,
    conv1x1,
    conv3x3,
)
from glc_train.layers.convolution import Conv1x1, Conv3x3, convolve, convolve_batch, prepared_bytes, unbiased
from glc_train.layers.exact import FRACTION_BITS, calibrate, exact_copy, snap
from glc_train.layers.finite_scalar import FiniteScalarQuantiser
from glc_train.layers.normalisation import ChannelNorm, GroupNorm, Swish, activated, norm_layer, swish
from glc_train.layers.prepared import forget_prepared, keep_prepared, kept_bytes
from glc_train.layers.resampling import folded_bytes, halve, upsample
from glc_train.layers.rounding import lower_bound, round_ste
from glc_train.layers.rows import by_rows, reach
from glc_train.layers.vector_quantiser import Quantised, VectorQuantiser

__all__ = [
    "FRACTION_BITS",
    "AdditiveFFN",
    "ChannelNorm",
    "Conv1x1",
    "Conv3x3",
    "DepthConv",
    "FiniteScalarQuantiser",
    "GatedDepthConv",
    "GatedFFN",
    "Grid",
    "GroupNorm",
    "Quantised",
    "SpatialAttention",
    "Swish",
    "Up2",
    "VectorQuantiser",
    "WeightedMean",
    "activated",
    "block_a",
    "block_b",
    "block_c",
    "by_rows",
    "calibrate",
    "conv1x1",
    "conv3x3",
    "convolve",
    "convolve_batch",
    "exact_copy",
    "folded_bytes",
    "forget_prepared",
    "halve",
    "keep_prepared",
    "kept_bytes",
    "lower_bound",
    "norm_layer",
    "prepared_bytes",
    "reach",
    "round_ste",
    "snap",
    "swish",
    "unbiased",
    "undecided",
    "upsample",
]
