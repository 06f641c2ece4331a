"""From a codec to a report: encode to a file, decode the file, measure, compare with baselines and published curves."""

from glc_train.evaluation.baselines import BASELINE_FORMATS, PillowBaseline
from glc_train.evaluation.bd_rate import BDRate, BDRateError, bd_rate
from glc_train.evaluation.comparison import as_curve, compare
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
from glc_train.evaluation.run import run_evaluation
from glc_train.evaluation.runner import Codec, evaluate_codec
from glc_train.evaluation.settings import DataSettings, EvaluationSettings
from glc_train.evaluation.video_run import run_video_evaluation

__all__ = [
    "BASELINE_FORMATS",
    "BDRate",
    "BDRateError",
    "Codec",
    "CodecResults",
    "Curve",
    "DataSettings",
    "EvaluationError",
    "EvaluationSettings",
    "PictureResult",
    "PillowBaseline",
    "QualityMeans",
    "RunFacts",
    "as_curve",
    "bd_rate",
    "compare",
    "evaluate_codec",
    "load_published",
    "plot_rate_distortion",
    "published_datasets",
    "run_evaluation",
    "run_video_evaluation",
    "write_csv",
    "write_json",
    "write_picture_grid",
]
