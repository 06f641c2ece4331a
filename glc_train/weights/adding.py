"""A copy of weights in our own folder, where they are found by name and by the fingerprint of files."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import safe_open

from glc_train.files import cache_folder
from glc_train.weights import load_any_codec, read_config, save_codec
from glc_train.weights.errors import WeightsError
from glc_train.weights.reading import TRAINING_PREFIX, write_package
from glc_train.weights.store import SUFFIX, described, is_name, label, located

_PUBLISHED: dict[str, Any] = {"autoencoder": {}, "transform": {}}  # the published model: all sizes are the default ones


def add(
    source: str | os.PathLike[str], name: str | None = None, version: int | None = None, trusted: Collection[str] = ()
) -> Path:
    """Copies weights into our own folder.

    Args:
        source: as of `load_any_codec`.
        name: of the weights; None: that in the file, else the file's own.
        version: of the weights of that name, from 1 up; None: that in the file, if any.
        trusted: as of `load_any_codec`.

    Returns:
        The copy.

    Raises:
        WeightsError: they cannot be loaded, the name cannot be one, or it belongs to others.
        OSError: the copy cannot be written.
    """
    source = located(source)
    codec, facts = load_any_codec(source, trusted=trusted), described(source)
    checksum = codec.weights_checksum()
    if facts is not None:
        name, version = name or facts.name, version or facts.version
    name = name or source.stem
    if not is_name(name) or (version is not None and version < 1):
        raise WeightsError(f"{label(name, version)}: names have letters, digits and . + - _, versions are 1 and up")
    target = cache_folder() / (label(name, version) + SUFFIX)
    if target.exists():
        there = described(target)
        if there is None or there.checksum != checksum:
            raise WeightsError(f"{target} holds other weights: give these another --name or --version")
        return target
    if facts is None:
        save_codec(codec, read_config(source, trusted) or _PUBLISHED, target, name=name, version=version)
        return target
    with safe_open(source, framework="pt") as file:
        metadata = dict(file.metadata())
        kept = [key for key in file.keys() if not key.startswith(TRAINING_PREFIX)]  # noqa: SIM118
        state = {key: file.get_tensor(key) for key in kept}
    identity = {"name": name, "version": None if version is None else str(version), "checksum": f"{checksum:08x}"}
    write_package(state, metadata | identity, target)
    return target
