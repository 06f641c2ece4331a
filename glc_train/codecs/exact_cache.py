"""The exact coder of a codec's present weights, and the fingerprint of these."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


class ExactCache(Generic[T]):
    """Keeps what was made of some weights until one of them changes."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[int, ...], T] | None = None

    def get(self, modules: Iterable[nn.Module], make: Callable[[], T]) -> T:
        """What `make` made of the parameters and buffers of `modules` as they are now."""
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        # Tensors made in inference mode count no versions.
        key = tuple(number for t in tensors for number in (t.data_ptr(), 0 if t.is_inference() else t._version))
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, make())
        return self._kept[1]


def weights_checksum(modules: Sequence[nn.Module], counts: Tensor, start: int = 0) -> int:
    """CRC-32 over the tensors of `modules`, each module's sorted by name, as float32, then over `counts` int64.

    `start`: the CRC-32 to go on with. A fingerprint is its low 16 bits.
    """
    for module in modules:
        for _, tensor in sorted(module.state_dict().items()):
            start = zlib.crc32(tensor.detach().float().contiguous().cpu().numpy().tobytes(), start)
    return zlib.crc32(counts.cpu().numpy().astype("<i8").tobytes(), start)
