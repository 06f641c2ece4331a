"""CompressAI's models, with weights of the user's, as a codec of single pictures."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from glc_train.evaluation.baselines.packages import needed
from glc_train.evaluation.baselines.search import Baseline, Source
from glc_train.evaluation.codecs import Encoded, EncodedFrame
from glc_train.evaluation.results import EvaluationError
from glc_train.files import sha256_of
from glc_train.pickles import read_pickle

_HEADER = struct.Struct(">B4HB")  # number of the weights, height, width, the two numbers of `shape`, how many strings
_LENGTH = struct.Struct(">I")  # of each string but the last
_STRIDE = 64  # the largest of the architectures


class CompressAICodec(Baseline):
    """A model of CompressAI's at several qualities, on the CPU; of pictures with up to 65,535 pixels on each side.

    A file holds a header of 10 bytes, and its strings with the lengths of all but the last. As in CompressAI's own
    evaluation the tables of the entropy coder are made from the weights, and sides are padded to multiples of 64.

    Args:
        architecture: as CompressAI calls it: bmshj2018-factorized, mbt2018-mean, cheng2020-anchor, ...
        weights: files, one for each quality, from the fewest bits to the most: a state dict, or a checkpoint with one.

    Raises:
        EvaluationError: the package or a file is missing, there is no such architecture, or the weights are of another.
        PickleError: a file cannot be read safely.
    """

    suffix = ".cai"
    takes_clips = False

    def __init__(self, architecture: str | None, weights: Sequence[str] | str | None) -> None:
        self.weights = [Path(path) for path in ([weights] if isinstance(weights, str) else weights or ())]
        if not architecture or not self.weights:
            raise EvaluationError(
                "compressai needs architecture=NAME, as mbt2018-mean, and weights=[FILE,...], one for each quality."
            )
        zoo, registry = (
            needed(module, "compressai", "CompressAI's models", "compressai")
            for module in ("compressai.zoo", "compressai.registry")
        )
        if architecture not in zoo.image_models:
            known = ", ".join(zoo.image_models)
            raise EvaluationError(f"CompressAI has no architecture {architecture}: choose among {known}.")
        self.architecture, self.settings = architecture, range(len(self.weights))
        self.models = [_load(path, architecture, registry.MODELS[architecture], zoo) for path in self.weights]

    @property
    def notes(self) -> tuple[str, ...]:
        """Which package, and which weights."""
        files = ", ".join(f"q{number} {path.name} ({sha256_of(path)})" for number, path in enumerate(self.weights))
        return (f"{self.architecture} is of CompressAI {version('compressai')}, with the weights (SHA-256) {files}.",)

    def encode_at(self, source: Source, setting: int) -> tuple[bytes, Encoded]:
        """See `Baseline`."""
        (picture,) = source.pictures()
        height, width = picture.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None] / 255
        start = time.perf_counter()
        with torch.no_grad():
            made = self.models[setting].compress(pad(x, _padding(height, width)))
        seconds = time.perf_counter() - start
        strings = [string for (string,) in made["strings"]]
        lengths = b"".join(_LENGTH.pack(len(string)) for string in strings[:-1])
        data = _HEADER.pack(setting, height, width, *made["shape"], len(strings)) + lengths + b"".join(strings)
        return data, Encoded((EncodedFrame("intra", len(data)),), seconds)

    def decode_bytes(self, data: bytes) -> Iterator[np.ndarray]:
        """See `Baseline`."""
        setting, height, width, *shape, count = _HEADER.unpack_from(data)
        place, strings = _HEADER.size + (count - 1) * _LENGTH.size, list[bytes]()
        for (length,) in _LENGTH.iter_unpack(data[_HEADER.size : place]):
            strings.append(data[place : place + length])
            place += length
        strings.append(data[place:])
        with torch.no_grad():
            x = self.models[setting].decompress([[string] for string in strings], shape)["x_hat"]
        x = pad(x, [-side for side in _padding(height, width)])
        yield x[0].mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _padding(height: int, width: int) -> list[int]:
    """Columns at the left and right, and rows at the top and bottom, that make the sides multiples of the stride."""
    columns, rows = -width % _STRIDE, -height % _STRIDE
    return [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]


def _load(path: Path, architecture: str, kind: Any, zoo: Any) -> Any:
    if not path.is_file():
        raise EvaluationError(
            f"{path} does not exist: give weights=[FILE,...] of {architecture}, one for each quality."
        )
    content = read_pickle(path)
    try:
        model = kind.from_state_dict(zoo.load_state_dict(content.get("state_dict", content)))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise EvaluationError(f"{path} holds no weights of CompressAI's {architecture}: give others.") from error
    model.update(force=True)
    return model.eval()
