"""The exact coder of a codec's present weights, and the fingerprint of these."""

import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor, nn

T = TypeVar("T")


class ExactCache(Generic[T]):
    """Keeps what was made for one key until another is asked for.

    The key must hold a checksum of the weights: fused optimisers, writes through `.data` and NumPy views change them
    without counting in their versions, and a file must never carry the fingerprint of weights that are gone.
    """

    def __init__(self) -> None:
        self._kept: tuple[Hashable, T] | None = None

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` made for `key`."""
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, make())
        return self._kept[1]


def weights_checksum(modules: Iterable[nn.Module], counts: Tensor, settings: Sequence[int], start: int = 0) -> int:
    """CRC-32 over the tensors of `modules`, each module's sorted by name, as float32, then `counts` and `settings`.

    A fingerprint is its low 16 bits. 12.5 million weights take about 15 ms.

    Args:
        modules: all that decoding uses.
        counts: of the prior of z, integers.
        settings: what changes the result but no tensor.
        start: the CRC-32 to go on with.
    """
    for module in modules:
        for _, tensor in sorted(module.state_dict().items()):
            values = tensor.detach().float().contiguous().cpu().numpy()
            start = zlib.crc32(values.astype("<f4", copy=False).data, start)
    start = zlib.crc32(counts.cpu().numpy().astype("<i8").data, start)
    return zlib.crc32(np.array(settings, dtype="<i8").data, start)
