"""From a codec to a report: encode to a file, decode the file, measure, compare with baselines and published curves."""

from glc_train.evaluation.baselines import BASELINE_FORMATS, PillowBaseline
from glc_train.evaluation.bd_rate import BDRate, BDRateError, bd_rate
from glc_train.evaluation.curves import Curve, load_published, published_datasets
from glc_train.evaluation.grid import write_picture_grid
from glc_train.evaluation.plots import plot_rate_distortion
from glc_train.evaluation.results import (
    CodecResults,
    EvaluationError,
    PictureResult,
    QualityMeans,
    RunFacts,
    write_csv,
    write_json,
)
from glc_train.evaluation.run import EvaluationSettings, run_evaluation
from glc_train.evaluation.runner import Codec, evaluate_codec

__all__ = [
    "BASELINE_FORMATS",
    "BDRate",
    "BDRateError",
    "Codec",
    "CodecResults",
    "Curve",
    "EvaluationError",
    "EvaluationSettings",
    "PictureResult",
    "PillowBaseline",
    "QualityMeans",
    "RunFacts",
    "bd_rate",
    "evaluate_codec",
    "load_published",
    "plot_rate_distortion",
    "published_datasets",
    "run_evaluation",
    "write_csv",
    "write_json",
    "write_picture_grid",
]
