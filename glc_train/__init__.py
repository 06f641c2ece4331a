"""Generative Latent Coding: images and video below 0.04 bits per pixel, trained, coded to files, and evaluated."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's: importing that takes longer than all else before Ctrl-C is taken care of
if TYPE_CHECKING:
    from typing import Any

    from glc_train.weights import WeightsError, find_codec, load_any_codec, load_codec, load_video, save_codec
    from glc_train.weights.hub import from_pretrained, push_to_hub, save_pretrained

__version__ = "0.1.0"
__all__ = [
    "WeightsError",
    "__version__",
    "find_codec",
    "from_pretrained",
    "load_any_codec",
    "load_codec",
    "load_video",
    "push_to_hub",
    "save_codec",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    """Import what is offered when it is first used: PyTorch takes seconds that `glc --help` does not need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glc_train import weights

    return getattr(weights, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
