"""From a codec to a report: encode to a file, decode the file, measure, compare with baselines and published curves."""

from glc_train.codec_groups import register
from glc_train.evaluation.baselines import (
    Baseline,
    CompressAICodec,
    PillowCodec,
    Reduced,
    StreamCodec,
    load_baseline,
)
from glc_train.evaluation.bd_rate import BDRateError, bd_rate
from glc_train.evaluation.codecs import Encoded, EncodedFrame, FileCodec, PictureCodec
from glc_train.evaluation.curves import Curve, compare, load_published, published_datasets
from glc_train.evaluation.decoded import DecodedFolder
from glc_train.evaluation.figures import write_figures
from glc_train.evaluation.page import write_report_page
from glc_train.evaluation.rate_plot import plot_rate_distortion
from glc_train.evaluation.results import EvaluationError, Result
from glc_train.evaluation.run import run_evaluation
from glc_train.evaluation.sets import Clip, Clips, EvaluationSet, Item, Pictures, Still
from glc_train.evaluation.settings import EvaluationSettings

register()

__all__ = [
    "BDRateError",
    "Baseline",
    "Clip",
    "Clips",
    "CompressAICodec",
    "Curve",
    "DecodedFolder",
    "Encoded",
    "EncodedFrame",
    "EvaluationError",
    "EvaluationSet",
    "EvaluationSettings",
    "FileCodec",
    "Item",
    "PictureCodec",
    "Pictures",
    "PillowCodec",
    "Reduced",
    "Result",
    "Still",
    "StreamCodec",
    "bd_rate",
    "compare",
    "load_baseline",
    "load_published",
    "plot_rate_distortion",
    "published_datasets",
    "run_evaluation",
    "write_figures",
    "write_report_page",
]
