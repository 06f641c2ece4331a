"""Pictures and clips in, tensors out: sources of training crops, shards and the LightningDataModules.

What it offers stands in `__init__.pyi` and is imported when it is first used: Lightning takes seconds that shards and
an evaluation do not need.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
