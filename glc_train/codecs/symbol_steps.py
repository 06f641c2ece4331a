"""What happens to the symbols of a context pass in files: they are chosen, to be written later, or read."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glc_train.bitstream import ContentCheck, GaussianTables, SymbolReader, SymbolWriter
from glc_train.codecs.bit_account import BitAccount, current_account
from glc_train.layers import FRACTION_BITS
from glc_train.memory import give_back
from glc_train.transform import choose_symbols, gaussian_bits

NO_SYMBOL = "the networks gave values that no symbol can hold: the weights are damaged or diverged"
_LARGE = 2**22  # elements of a map; memory matters with more
_MOST_KNOWN = 16  # masks of smaller maps whose places are kept


class Fetched:
    """A tensor of any shape on its way to the processor, which need not wait for it."""

    def __init__(self, x: Tensor) -> None:
        self._copy = x.to("cpu", non_blocking=True)
        self._done = torch.cuda.current_stream(x.device).record_event() if x.is_cuda else None

    def numpy(self) -> np.ndarray:
        """Its values, flat, once they are there."""
        if self._done is not None:
            self._done.synchronize()
        values: np.ndarray = self._copy.flatten().numpy()
        return values


class TableIndex:
    """Scales on the grid → indices of their tables, on the device."""

    def __init__(self, tables: GaussianTables) -> None:
        self.tables = tables
        self._dtype = torch.uint8 if len(tables) <= 256 else torch.int32
        self._edges: dict[torch.device, Tensor] = {}

    def __call__(self, scale: Tensor) -> Tensor:
        """As `GaussianTables.index`: uint8 or int32 (n,) of scales (n,) that are multiples of 2^-12."""
        edges = self._edges.get(scale.device)
        if edges is None:
            # integers below 2^24, so exact
            edges = torch.from_numpy(self.tables.thresholds.astype(np.float32)).to(scale.device) * 2.0**-FRACTION_BITS
            self._edges[scale.device] = edges
        return torch.bucketize(scale, edges, right=True, out_int32=True).to(self._dtype)


class Places:
    """Where the masks of one partition are set, as flat indices: found once for each size of a map."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, number: int, mask: Tensor) -> Tensor:
        """Indices (n,) int64 of pass `number`, whose mask is (C, h, w)."""
        key = (number, *mask.shape, mask.device)
        places = self._known.get(key)
        if places is None:
            places = mask.flatten().nonzero().flatten()
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            if mask.numel() <= _LARGE:
                self._known[key] = places
        return places


class _FileStep:
    """Common part of writing and reading: scales become table indices, decoded values go back in place."""

    def __init__(self, table_index: TableIndex, places: Places) -> None:
        self.table_index = table_index
        self.places = places
        self.passes = 0

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        """As of `SymbolStep`."""
        if mean.numel() > _LARGE:
            give_back()  # what computing the parameters leaves: hundreds of megabytes
        self.mask = mask
        at = self.places(self.passes, mask)
        there = mean.flatten().index_select(0, at)
        decoded = torch.zeros_like(mean).flatten()
        values = self.code(there, scale.flatten().index_select(0, at), at) + there
        self.passes += 1
        return decoded.index_copy_(0, at, values).view(mean.shape)

    def code(self, mean: Tensor, scale: Tensor, at: Tensor) -> Tensor:
        """Symbols float32 (n,) of the pass, at the flat indices `at` (n,); mean and scale (n,) are theirs."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Pass:
    """What was chosen in one pass: symbols and table indices (n,), and what their estimate needs."""

    symbols: Fetched
    index: Fetched
    chosen: Tensor
    scale: Tensor
    mask: Tensor


class ChooseStep(_FileStep):
    """Chooses the symbols of y, `target` (1, C, h, w) in units of the step; λ of `choose_symbols` is `rdoq`."""

    def __init__(self, table_index: TableIndex, places: Places, target: Tensor, rdoq: float) -> None:
        super().__init__(table_index, places)
        self.rdoq = rdoq
        self.target = target.flatten()
        self.chosen: list[_Pass] = []

    def code(self, mean: Tensor, scale: Tensor, at: Tensor) -> Tensor:
        """As of `_FileStep`."""
        symbols = choose_symbols(self.target.index_select(0, at) - mean, scale, self.rdoq)
        index = Fetched(self.table_index(scale))
        self.chosen.append(_Pass(Fetched(symbols), index, symbols, scale, self.mask))
        return symbols

    def write(self, writer: SymbolWriter, check: ContentCheck, account: BitAccount | None) -> tuple[float, float]:
        """Writes what was chosen; returns its ideal and its estimated bits."""
        ideal_bits, estimated_bits, tables = 0.0, 0.0, self.table_index.tables
        for number, part in enumerate(self.chosen):
            values, index = part.symbols.numpy(), part.index.numpy()
            if not bool((np.abs(values) < 2.0**31).all()):  # false for NaN too
                raise ValueError(NO_SYMBOL)
            symbols = values.astype(np.int32)
            writer.write_gaussian(symbols, index, tables)
            check.update(index)
            check.update(symbols)
            ideal, estimated = tables.ideal_bits(symbols, index), gaussian_bits(part.chosen, part.scale)
            ideal_bits += ideal
            estimated_bits += float(estimated.cpu().numpy().sum(dtype=np.float64))
            if account is not None:
                account.add_pass(number, ideal, symbols, estimated, part.mask[None])
        return ideal_bits, estimated_bits


class ReadStep(_FileStep):
    """Reads the symbols of each pass, and tells the account that there may be."""

    def __init__(self, table_index: TableIndex, places: Places, check: ContentCheck, reader: SymbolReader) -> None:
        super().__init__(table_index, places)
        self.check = check
        self.reader = reader
        self.account = current_account()

    def code(self, mean: Tensor, scale: Tensor, at: Tensor) -> Tensor:
        """As of `_FileStep`."""
        index = self.table_index(scale).cpu().numpy()
        tables = self.table_index.tables
        symbols = self.reader.read_gaussian(index, tables)
        self.check.update(index)
        self.check.update(symbols)
        values = torch.from_numpy(symbols).to(mean.device).float()
        if self.account is not None:
            bits, where = gaussian_bits(values, scale), self.mask[None]
            self.account.add_pass(self.passes, tables.ideal_bits(symbols, index), symbols, bits, where)
        return values
