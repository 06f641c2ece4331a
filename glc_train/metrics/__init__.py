"""Distances between an original and a decoded picture; a value that could not be computed is `None`, never 0.

What it offers stands in `__init__.pyi` and is imported when it is first used: PyTorch takes seconds that the titles of
a plot do not need.
"""

import lazy_loader

from glc_train.metrics.flicker import flicker as flicker  # at once: later the module would take its function's name

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
