"""Codecs of others, measured as ours are: each takes the best of its settings within some bytes."""

from glc_train.evaluation.baselines.compressai import CompressAICodec
from glc_train.evaluation.baselines.pictures import PillowCodec
from glc_train.evaluation.baselines.reduced import Reduced
from glc_train.evaluation.baselines.search import AtSettings, Baseline
from glc_train.evaluation.baselines.streams import StreamCodec
from glc_train.evaluation.baselines.table import load_baseline

__all__ = [
    "AtSettings",
    "Baseline",
    "CompressAICodec",
    "PillowCodec",
    "Reduced",
    "StreamCodec",
    "load_baseline",
]
