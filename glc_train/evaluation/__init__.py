"""From a codec to a report: encode to a file, decode the file, measure, compare with baselines and published curves."""

from glc_train.evaluation.baselines import BASELINE_FORMATS, PillowBaseline, X26xBaseline
from glc_train.evaluation.bd_rate import BDRate, BDRateError, bd_rate
from glc_train.evaluation.codecs import Encoded, EncodedFrame, FileCodec, PictureCodec
from glc_train.evaluation.curves import Curve, as_curve, compare, load_published, published_datasets
from glc_train.evaluation.plots import plot_rate_distortion
from glc_train.evaluation.results import CodecResults, EvaluationError, FrameResult, Means, Result
from glc_train.evaluation.run import run_evaluation
from glc_train.evaluation.sets import Clip, Clips, EvaluationSet, Item, Pictures, Still
from glc_train.evaluation.settings import EvaluationSettings

__all__ = [
    "BASELINE_FORMATS",
    "BDRate",
    "BDRateError",
    "Clip",
    "Clips",
    "CodecResults",
    "Curve",
    "Encoded",
    "EncodedFrame",
    "EvaluationError",
    "EvaluationSet",
    "EvaluationSettings",
    "FileCodec",
    "FrameResult",
    "Item",
    "Means",
    "PictureCodec",
    "Pictures",
    "PillowBaseline",
    "Result",
    "Still",
    "X26xBaseline",
    "as_curve",
    "bd_rate",
    "compare",
    "load_published",
    "plot_rate_distortion",
    "published_datasets",
    "run_evaluation",
]
