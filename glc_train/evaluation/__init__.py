"""From a codec to a report: encode to a file, decode the file, measure, compare with baselines and published curves.

What it offers stands in `__init__.pyi` and is imported when it is first used: PyTorch takes seconds that a plot of
results does not need.
"""

import lazy_loader

from glc_train.codec_groups import register
from glc_train.evaluation.bd_rate import bd_rate as bd_rate  # at once: later the module would take its function's name

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register()
