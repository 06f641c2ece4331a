"""Weights files as they are: configuration and tensors, whatever a stranger may have put there."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glc_train.files import replacing
from glc_train.pickles import PickleError, read_pickle
from glc_train.weights.config import Config, checked
from glc_train.weights.errors import WeightsError
from glc_train.weights.packing import unpacked
from glc_train.weights.store import FORMAT, VIDEO_FORMAT, located

CHECKPOINT_CONFIG = "glc_config"  # key of the codec's configuration in a Lightning checkpoint
CHECKPOINT_PREFIX = "codec."
TRAINING_PREFIX = "training."  # of tensors in a package that are no part of the codec, but of its further training
_MAX_NESTING = 8  # of the tables that the published state may lie in


def read_package(path: Path, trusted: Collection[str] = ()) -> tuple[Config, dict[str, Tensor]]:
    """Configuration, which has passed `checked`, and state of one of our safetensors packages. Raises WeightsError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if not name.startswith(TRAINING_PREFIX)]  # noqa: SIM118
            state = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        # the last four: number formats that PyTorch has not
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error
    found = metadata.get("format")
    if found not in (FORMAT, VIDEO_FORMAT):
        raise WeightsError(f"{path} is no weights package of glc_train (format {found!r}, not {FORMAT!r})")
    return _parse_config(metadata.get("config"), path, trusted), unpacked(state, str(path))


def write_package(state: Mapping[str, Tensor], facts: Mapping[str, str | None], path: Path) -> None:
    """Writes tensors, contiguous and on the CPU, and the metadata that is not None. Raises OSError."""
    metadata = {name: text for name, text in facts.items() if text is not None}
    with replacing(path) as temporary:
        try:
            save_file(dict(state), temporary, metadata=metadata)
        except SafetensorError as error:  # such as a full disk, which the message says
            raise OSError(f"{path}: cannot be written ({error}); check the folder and the free space.") from error


def read_training_state(path: str | os.PathLike[str], module: str) -> dict[str, Tensor]:
    """State of a module that was trained beside the codec, such as `predictor`; empty where the file has none.

    Args:
        path: of a package or checkpoint of ours, or of the published release, which has none of ours.
        module: its name in the stage.

    Raises:
        WeightsError: the file is missing or unreadable.
    """
    path = located(path)
    if path.suffix == ".safetensors":
        prefix = f"{TRAINING_PREFIX}{module}."
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        except (SafetensorError, OSError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{path} is no readable safetensors file: {error}") from error
    content = _pickled(path)
    state = content.get("state_dict") if isinstance(content, dict) and CHECKPOINT_CONFIG in content else None
    own = state.items() if isinstance(state, Mapping) else ()
    return _table({str(k).removeprefix(f"{module}."): v for k, v in own if str(k).startswith(f"{module}.")}, path)


def _parse_config(text: Any, path: Path, trusted: Collection[str]) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} holds no readable configuration of its model: {error}") from error
    try:
        return checked(config, trusted)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def read_tables(path: Path, trusted: Collection[str] = ()) -> tuple[Config | None, dict[str, Tensor]]:
    """Configuration and state of the codec in a checkpoint of ours; of other pickles no configuration, and their state.

    Raises:
        WeightsError: the file is damaged, or holds no table of tensors.
    """
    content = _pickled(path)
    if isinstance(content, dict) and CHECKPOINT_CONFIG in content:
        config = _parse_config(content[CHECKPOINT_CONFIG], path, trusted)
        return config, _checkpoint_state(content.get("state_dict", {}), path)
    for key in ("state_dict", "net", "net_g"):
        for _ in range(_MAX_NESTING):  # a table may even hold itself
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
    return None, {name.removeprefix("module."): tensor for name, tensor in _table(content, path).items()}


def _pickled(path: Path) -> Any:
    try:
        return read_pickle(path)
    except (PickleError, OSError) as error:
        raise WeightsError(f"{path} cannot be opened: {error}" if isinstance(error, OSError) else str(error)) from error


def _checkpoint_state(state: Any, path: Path) -> dict[str, Tensor]:
    """The codec's part of a Lightning checkpoint: the averaged (EMA) weights where it has them."""
    for prefix in ("ema.", CHECKPOINT_PREFIX):
        if not isinstance(state, Mapping):
            break
        own = {k.removeprefix(prefix): v for k, v in state.items() if isinstance(k, str) and k.startswith(prefix)}
        if own:
            return _table(own, path)
    return _table({} if isinstance(state, Mapping) else state, path)


def _table(state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, dict) or not all(isinstance(k, str) and _is_plain(v) for k, v in state.items()):
        raise WeightsError(f"{path} holds no table of tensors (looked under state_dict, net, net_g)")
    return state


def _is_plain(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.is_nested or value.is_quantized:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def read_config(path: str | os.PathLike[str], trusted: Collection[str] = ()) -> Config | None:
    """Configuration of the codec in a package or checkpoint of ours; None for the published release, which has none.

    It has passed `checked`, so that no text in it means anything but itself. `trusted`: see `load_any_codec`.

    Raises:
        WeightsError: the file is missing or unreadable.
    """
    path = located(path)
    read = read_package if path.suffix == ".safetensors" else read_tables
    return read(path, trusted)[0]
