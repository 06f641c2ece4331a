"""Tensors into a module: all of them, of the right shapes and kinds, and usable numbers."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from glc_train.weights.errors import WeightsError

_MOST_NAMED = 50
_MAX_COUNTS = 2.0**38  # what the tables of a prior are made for


def _listed(names: Sequence[str]) -> str:
    shown = [name if name.isprintable() and len(name) < 200 else reprlib.repr(name) for name in names[:_MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def compare(module: torch.nn.Module, state: Mapping[str, Tensor], source: str, optional: Iterable[str] = ()) -> None:
    """Compares names, shapes and kinds of number; `module` may be on the `meta` device. Raises as `load_strictly`."""
    own = module.state_dict()
    common = sorted(own.keys() & state.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in common
        if own[name].shape != state[name].shape
    ]
    kinds = [
        f"{name} {state[name].dtype} instead of {own[name].dtype}"
        for name in common
        if own[name].is_floating_point() != state[name].is_floating_point() or state[name].is_complex()
    ]
    problems = {
        "missing": sorted(own.keys() - state.keys() - set(optional)),
        "unexpected": sorted(state.keys() - own.keys()),
        "of wrong shape": shapes,
        "of wrong type": kinds,
    }
    if any(problems.values()):
        text = "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in problems.items() if names)
        raise WeightsError(f"{source} does not fit the model: {text}")


def _usable(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a module can work with the tensor's values as `dtype`: finite numbers, or counts."""
    if dtype.is_floating_point:
        return bool(tensor.to(dtype).isfinite().all())
    return not bool((tensor < 0).any()) and float(tensor.double().sum()) < _MAX_COUNTS


def load_strictly(
    module: torch.nn.Module, state: Mapping[str, Tensor], source: str, optional: Iterable[str] = (), keep: bool = False
) -> None:
    """Loads `state` (any float type) into `module`.

    Args:
        module: on any device.
        state: tensors by name.
        source: what errors name.
        optional: names that `state` may lack.
        keep: let the module keep the tensors of `state`, such as those that are mapped from a file, instead of copies,
            if it takes all of them as they are; the module is then where they are.

    Raises:
        WeightsError: names every missing, unexpected, mis-shaped and mis-typed tensor, else every one with values that
            are not finite, or are no counts. Nothing is loaded then.
    """
    compare(module, state, source, optional)
    own = module.state_dict()
    bad = [name for name, tensor in state.items() if not _usable(tensor, own[name].dtype)]
    if bad:
        raise WeightsError(
            f"{source} is damaged, or its training diverged: values that are infinite, NaN or impossible counts in "
            f"{_listed(bad)}; take an earlier checkpoint, or the file from where it was made once more."
        )
    keep = keep and all(t.dtype == own[name].dtype and t.is_contiguous() for name, t in state.items())
    module.load_state_dict(dict(state), strict=False, assign=keep)
