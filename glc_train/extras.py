"""What `pip install 'glc_train[EXTRA]'` installs beside the codec, and one sentence where it is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

PACKAGES = {
    "demo": ("gradio",),
    "eval": (
        "DISTS_pytorch", "filelock", "hydra", "jinja2", "lazy_loader", "lpips", "matplotlib", "omegaconf", "pydantic",
        "requests", "scipy", "skimage", "sklearn", "torchmetrics", "torchvision",
    ),
    "hub": ("huggingface_hub",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "train": ("braceexpand", "fsspec", "lightning", "tensorboard", "wandb", "webdataset", "yaml"),
}  # fmt: skip
"""Modules that each extra of pyproject.toml brings, by its name; `train` and `demo` bring those of `eval` too."""


class MissingExtra(ImportError):
    """Packages of an extra are not installed."""


def require(extra: str, what: str = "this command") -> None:
    """Say what is missing before anything is imported.

    Args:
        extra: one of `PACKAGES`.
        what: needs it, as the sentence begins.

    Raises:
        MissingExtra: a package of the extra is not installed.
    """
    names = PACKAGES[extra] + (PACKAGES["eval"] if extra in ("demo", "train") else ())
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"{what} needs {', '.join(missing)}: pip install 'glc_train[{extra}]'")


def leave_without(extra: str, what: str) -> None:
    """As `require`, at the start of a program: exit code 1."""
    try:
        require(extra, what)
    except MissingExtra as error:
        sys.exit(str(error))
