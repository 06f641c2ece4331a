"""Where the bits of written or read frames go, told by the coders while someone asks; costs nothing otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor


class BitAccount:
    """Sums over the frames that were written or read, see `accounting`.

    Attributes:
        payload: bytes out of the entropy coder; what else a file has is headers and checksums. Of written frames alone.
        z_bits: code length of z under the coder's integer tables. Likewise.
        pass_bits: that of y, for each context pass.
        symbols: how many symbols of y have each value.
        map: (h, w) float64, bits of y at each place of the latent, all channels together, as the model estimates them;
            None where there is no y.
    """

    def __init__(self) -> None:
        self.payload = 0
        self.z_bits = 0.0
        self.pass_bits: list[float] = []
        self.symbols: Counter[int] = Counter()
        self.map: np.ndarray | None = None
        self._noted: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def add_frame(self, payload: int, z_bits: float) -> None:
        """A frame of so many bytes, of whose bits so many are those of z."""
        self.payload += payload
        self.z_bits += z_bits

    def add_pass(self, number: int, ideal_bits: float, symbols: np.ndarray, estimated: Tensor, where: Tensor) -> None:
        """Pass `number` of a frame.

        Args:
            number: from 0.
            ideal_bits: of all its symbols.
            symbols, estimated: (n,), value and estimated bits of each, in raster order of `where`.
            where: (1, C, h, w), which places it codes.
        """
        self.pass_bits += [0.0] * (number + 1 - len(self.pass_bits))
        self.pass_bits[number] += ideal_bits
        self._noted.append((symbols, estimated, where))

    def settle(self) -> None:
        """Bring `symbols` and `map` up to date: so the coder, whose time may be measured, does not wait for them."""
        for symbols, estimated, where in self._noted:
            values, counts = np.unique(symbols, return_counts=True)
            self.symbols.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
            bits = torch.zeros(where.shape, dtype=torch.float64, device=where.device)
            bits[where] = estimated.double()
            of_pass = bits.sum((0, 1)).cpu().numpy()
            self.map = of_pass if self.map is None else self.map + of_pass
        self._noted = []


_current: ContextVar[BitAccount | None] = ContextVar("account", default=None)


@contextmanager
def accounting() -> Iterator[BitAccount]:
    """An account of all that is written or read in the block, in this thread; settled at its end."""
    token = _current.set(account := BitAccount())
    try:
        yield account
    finally:
        _current.reset(token)
    account.settle()


def current_account() -> BitAccount | None:
    """That of the innermost `accounting` block; None outside of one."""
    return _current.get()
