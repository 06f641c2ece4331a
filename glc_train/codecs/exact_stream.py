"""Symbols of the image transform codec ⇄ bytes, in arithmetic that is the same everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from glc_train.bitstream import CategoricalTable, ContentCheck, GaussianTables, SymbolReader, SymbolWriter
from glc_train.codecs.bit_account import current_account
from glc_train.codecs.calibration import Draws, calibrate_pictures, drawn_indices, drawn_latent
from glc_train.layers import FRACTION_BITS, FiniteScalarQuantiser, VectorQuantiser, exact_copy, snap
from glc_train.transform import (
    FactorisedGaussian,
    ImageTransform,
    IndexTransform,
    LatentDecoder,
    PriorParameters,
    SymbolStep,
    choose_symbols,
    gaussian_bits,
    split_parameters,
)

Refine = Callable[[Tensor, Tensor], Tensor]
"""y (1, C, h, w) and the decoded z (1, Cz, h/4, w/4) → another y for the same picture."""

_STRIPE = 16  # rows of z whose parameters are computed together ...
_HALO = 2  # ... given so many rows above and below, which is how far the hyper synthesis looks


@dataclass(frozen=True)
class StreamReport:
    """Payload of one picture; what must agree; its cost in bits (see `CompressResult`); what a decoder reads from it.

    `decoded`: y_hat (1, C, h, w); of a picture coded as indices alone, its code vectors (1, N, h, w).
    """

    payload: bytes
    content_check: int
    estimated_bits_y: float
    estimated_bits_z: float
    ideal_bits: float
    decoded: Tensor


def _table_index(scale: Tensor, tables: GaussianTables) -> np.ndarray:
    """Tables of scales (n,) that lie on the grid."""
    return tables.index((scale * 2**FRACTION_BITS).to(torch.int64).cpu().numpy())


class _FileStep:
    """Common part of writing and reading: scales become table indices, decoded values go back in place."""

    def __init__(self, tables: GaussianTables, check: ContentCheck) -> None:
        self.tables = tables
        self.check = check

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        where = mask.expand_as(mean)
        index = _table_index(scale[where], self.tables)
        symbols = self.code(mean, where, scale, index)
        self.check.update(index)
        self.check.update(symbols)
        decoded = torch.zeros_like(mean)
        decoded[where] = torch.from_numpy(symbols.astype(np.float32)).to(mean.device) + mean[where]
        return decoded

    def code(self, mean: Tensor, where: Tensor, scale: Tensor, index: np.ndarray) -> np.ndarray:
        """Symbols int32 (n,) of the pass, in raster order of `where`."""
        raise NotImplementedError


class _Write(_FileStep):
    def __init__(
        self, tables: GaussianTables, check: ContentCheck, writer: SymbolWriter, target: Tensor, rdoq: float
    ) -> None:
        super().__init__(tables, check)
        self.rdoq = rdoq
        self.writer = writer
        self.target = target
        self.ideal_bits = 0.0
        self.estimated_bits = 0.0
        self.passes = 0
        self.account = current_account()

    def code(self, mean: Tensor, where: Tensor, scale: Tensor, index: np.ndarray) -> np.ndarray:
        chosen = choose_symbols(self.target[where] - mean[where], scale[where], self.rdoq)
        if not bool((chosen.abs() < 2.0**31).all()):  # false for NaN too
            raise ValueError("the networks gave values that no symbol can hold: the weights are damaged or diverged")
        symbols = chosen.cpu().numpy().astype(np.int32)
        self.writer.write_gaussian(symbols, index, self.tables)
        ideal, estimated = self.tables.ideal_bits(symbols, index), gaussian_bits(chosen, scale[where])
        self.ideal_bits += ideal
        self.estimated_bits += float(estimated.cpu().numpy().sum(dtype=np.float64))
        if self.account is not None:
            self.account.add_pass(self.passes, ideal, symbols, estimated, where)
        self.passes += 1
        return symbols


class _Read(_FileStep):
    def __init__(self, tables: GaussianTables, check: ContentCheck, reader: SymbolReader) -> None:
        super().__init__(tables, check)
        self.reader = reader

    def code(self, mean: Tensor, where: Tensor, scale: Tensor, index: np.ndarray) -> np.ndarray:
        return self.reader.read_gaussian(index, self.tables)


class _CodebookMap:
    """A map of codebook indices ⇄ bytes, under a categorical table."""

    def __init__(self, quantiser: VectorQuantiser | FiniteScalarQuantiser, counts: Tensor) -> None:
        self.codebook = quantiser.code_vectors()
        self.table = CategoricalTable.from_counts(counts.cpu().numpy())

    def write(self, indices: Tensor, writer: SymbolWriter, check: ContentCheck) -> float:
        """Writes indices (1, h, w) int64; returns their bits under the table."""
        symbols = indices.flatten().cpu().numpy().astype(np.int32)
        writer.write_categorical(symbols, self.table)
        check.update(symbols)
        return self.table.ideal_bits(symbols)

    def read(self, height: int, width: int, reader: SymbolReader, check: ContentCheck, device: torch.device) -> Tensor:
        """Indices (1, h, w) int64."""
        symbols = reader.read_categorical(height * width, self.table)
        check.update(symbols)
        return torch.from_numpy(symbols.astype(np.int64)).to(device).view(1, height, width)

    def lookup(self, indices: Tensor) -> Tensor:
        """Code vectors (1, C, h, w)."""
        return self.codebook[indices].permute(0, 3, 1, 2).contiguous()

    def draw(self, draws: Draws, height: int, width: int, device: torch.device) -> Tensor:
        """As of `DrawnMap`: indices as often as the table says."""
        ends = np.cumsum(self.table.frequencies)
        indices = np.searchsorted(ends, draws.integers(height * width), side="right")
        return self.lookup(torch.from_numpy(indices).to(device).view(1, height, width))


class _GaussianMap:
    """A map of integers ⇄ bytes, each channel under its own Gaussian table. Methods as of `_CodebookMap`."""

    def __init__(self, prior: FactorisedGaussian, tables: GaussianTables) -> None:
        self.tables = tables
        self.mean = snap(prior.mean.detach().float())
        scale = snap(prior.scale.detach().float())
        self.scale = scale
        self.index = tables.index((scale * 2**FRACTION_BITS).to(torch.int64).cpu().numpy())

    def _indices(self, height: int, width: int) -> np.ndarray:
        return np.repeat(self.index, height * width)

    def write(self, indices: Tensor, writer: SymbolWriter, check: ContentCheck) -> float:
        """Writes integers (1, C, h, w) int64; returns their bits under the tables."""
        if not torch.equal(indices.to(torch.int32).long(), indices):  # NaN has become the lowest of all integers
            raise ValueError("the networks gave values that no symbol can hold: the weights are damaged or diverged")
        symbols = indices.flatten().cpu().numpy().astype(np.int32)
        tables = self._indices(*indices.shape[-2:])
        writer.write_gaussian(symbols, tables, self.tables)
        check.update(symbols)
        return self.tables.ideal_bits(symbols, tables)

    def read(self, height: int, width: int, reader: SymbolReader, check: ContentCheck, device: torch.device) -> Tensor:
        """Integers (1, C, h, w) int64."""
        symbols = reader.read_gaussian(self._indices(height, width), self.tables)
        check.update(symbols)
        return torch.from_numpy(symbols.astype(np.int64)).to(device).view(1, -1, height, width)

    def lookup(self, indices: Tensor) -> Tensor:
        """Decoded z (1, C, h, w)."""
        return indices.float() + self.mean.view(-1, 1, 1)

    def draw(self, draws: Draws, height: int, width: int, device: torch.device) -> Tensor:
        """As of `DrawnMap`."""
        noise = torch.from_numpy(draws.normal(self.index.size * height * width)).to(device)
        symbols = (noise.view(1, -1, height, width) * self.scale.view(-1, 1, 1)).round()
        return self.lookup(symbols)


SymbolMap = _CodebookMap | _GaussianMap


def symbol_map(
    quantiser: VectorQuantiser | FiniteScalarQuantiser | FactorisedGaussian, counts: Tensor, tables: GaussianTables
) -> SymbolMap:
    """How the indices of `quantiser` are written; `counts` (M,) int64 of its codes where it has a codebook."""
    if isinstance(quantiser, FactorisedGaussian):
        return _GaussianMap(quantiser, tables)
    return _CodebookMap(quantiser, counts)


class ExactSymbols:
    """Symbols of z and y of one picture or frame ⇄ payload: what the coders of pictures and of frames have in common.

    Args:
        z_map: how z is written.
        tables: how y is written.
        implied: payload that the container can do without, see `SymbolWriter.finish`.
    """

    def __init__(self, z_map: SymbolMap, tables: GaussianTables, implied: bytes = b"") -> None:
        self.implied = implied
        self.z_map = z_map
        self.tables = tables

    def write(
        self,
        y: Tensor,
        z_indices: Tensor,
        check: ContentCheck,
        parameters_of: Callable[[Tensor], PriorParameters],
        decode_y: Callable[[PriorParameters, SymbolStep], Tensor],
        rdoq: float = 0.0,
    ) -> StreamReport:
        """Writes y (1, C, h, w) and z_indices.

        Args:
            y: before division by the step.
            z_indices: see `SymbolMap`.
            check: to go on with.
            parameters_of: decoded z → parameters of pass 0, exact.
            decode_y: runs the passes, exact.
            rdoq: of `choose_symbols`.
        """
        writer = SymbolWriter()
        ideal_z = self.z_map.write(z_indices, writer, check)
        prior = parameters_of(self.z_map.lookup(z_indices))
        step = _Write(self.tables, check, writer, y.float() / prior.step, rdoq)
        y_hat = decode_y(prior, step)
        ideal = ideal_z + step.ideal_bits
        payload = writer.finish(self.implied)
        if step.account is not None:
            step.account.add_frame(len(payload), ideal_z)
        return StreamReport(payload, check.digest(), step.estimated_bits, ideal_z, ideal, y_hat)

    def read(
        self,
        payload: bytes,
        z_size: tuple[int, int],
        device: torch.device,
        check: ContentCheck,
        parameters_of: Callable[[Tensor, SymbolReader], PriorParameters],
        decode_y: Callable[[PriorParameters, SymbolStep], Tensor],
    ) -> Tensor:
        """Reads what `write` wrote: y_hat (1, C, h, w).

        Args:
            payload, device, check, decode_y: see `write`.
            z_size: height and width of the map of z.
            parameters_of: as of `write`; also gets what knows how much of the payload is left.
        """
        reader = SymbolReader(payload)
        indices = self.z_map.read(*z_size, reader, check, device)
        return decode_y(parameters_of(self.z_map.lookup(indices), reader), _Read(self.tables, check, reader))


class _PictureCoder:
    """Common part of the coders of pictures: reading in two steps."""

    def read_symbols(
        self, payload: bytes, height: int, width: int, device: torch.device, check: ContentCheck
    ) -> Tensor:
        """What `StreamReport.decoded` was, from a payload.

        Args:
            payload: from `write`.
            height, width: h, w of the latent.
            device: where to compute.
            check: to go on with; whether it arrives at the encoder's is for the caller to see.
        """
        raise NotImplementedError

    def latent(self, decoded: Tensor, quality: int) -> Tensor:
        """latent_hat (1, N, h, w) of `StreamReport.decoded`, the same bits on every machine: clips go on from it."""
        raise NotImplementedError

    def drawn_latent(self) -> Tensor:
        """Latent (1, N, h, w) of a picture that the model draws; it calibrates the frames that go on from such."""
        raise NotImplementedError

    def shown_latent(self, decoded: Tensor, quality: int) -> Tensor:
        """About `latent`, as the trained networks give it: for the one picture, on which no other depends."""
        return self.latent(decoded, quality)


class ExactLatentCoder(_PictureCoder):
    """Writes and reads the symbols of one picture at a time, so that batches cannot matter.

    Args:
        transform: the trained transform codec; its decoder is copied.
        fingerprint: 16 bits that stand for its weights.
    """

    def __init__(self, transform: ImageTransform, fingerprint: int) -> None:
        self.fingerprint = fingerprint
        self.decoder = cast(LatentDecoder, exact_copy(transform.decoder))
        tables = GaussianTables()
        z_map = symbol_map(transform.z_quantiser, transform.z_counts, tables)
        self.symbols = ExactSymbols(z_map, tables)
        self.transform = transform  # the encoder's side needs no exact copy
        calibrate_pictures(self.decoder, z_map)

    def encode(
        self, latent: Tensor, quality: Tensor, check: ContentCheck | None = None, refine: Refine | None = None
    ) -> StreamReport:
        """Codes a latent (1, N, h, w) at `quality` (1,) int64.

        check: to go on with; None begins one. refine: what is made of y before it is written; None: nothing.
        """
        encoded = self.transform.encode(latent, quality)
        z_indices = self.transform.z_quantiser.nearest(encoded.z)
        if refine is not None:
            return self.write(refine(encoded.y, self.symbols.z_map.lookup(z_indices)), z_indices, check)
        return self.write(encoded.y, z_indices, check, self.transform.rdoq[int(quality)])

    def write(self, y: Tensor, z_indices: Tensor, check: ContentCheck | None = None, rdoq: float = 0.0) -> StreamReport:
        """Codes y (1, C, h, w) and z_indices (1, h/4, w/4), or (1, Cz, h/4, w/4) under the factorised prior.

        check: to go on with; None begins one. rdoq: of `choose_symbols`.
        """
        decoder, check = self.decoder, check or ContentCheck()
        return self.symbols.write(y, z_indices, check, decoder.parameters_of, decoder.decode_y, rdoq)

    def read_symbols(
        self, payload: bytes, height: int, width: int, device: torch.device, check: ContentCheck
    ) -> Tensor:
        """As of `_PictureCoder`."""
        decoder, z_size = self.decoder, (height // 4, width // 4)
        return self.symbols.read(payload, z_size, device, check, self._parameters_of, decoder.decode_y)

    def _parameters_of(self, z_hat: Tensor, reader: SymbolReader) -> PriorParameters:
        """`LatentDecoder.parameters_of` in stripes, bit for bit the same: only sums that are exact have neighbours.

        So the memory is that of a stripe, and a payload that cannot hold the symbols of the first pass is refused when
        their cheapest cost, under the tables found so far, is more than is left of it.
        """
        rows, least, parts, tables = z_hat.shape[-2], 0.0, [], self.symbols.tables
        for top in range(0, rows, _STRIPE):
            bottom, first = min(top + _STRIPE, rows), max(top - _HALO, 0)
            part = self.decoder.parameters_of(z_hat[..., first : bottom + _HALO, :])
            prior = split_parameters(part.raw[..., 4 * (top - first) : 4 * (bottom - first), :])
            scale = prior.scale[:, self.decoder.masks(prior.mean)[0]]
            least += float(tables.least_bits[_table_index(scale.flatten(), tables)].sum())
            reader.afford(least)
            parts.append(prior.raw)
        return split_parameters(torch.cat(parts, dim=-2))

    def latent(self, decoded: Tensor, quality: int) -> Tensor:
        """As of `_PictureCoder`."""
        latent: Tensor = self.decoder(decoded, torch.tensor([quality], device=decoded.device))
        return latent

    def drawn_latent(self) -> Tensor:
        """As of `_PictureCoder`."""
        return drawn_latent(self.decoder, self.symbols.z_map)

    def shown_latent(self, decoded: Tensor, quality: int) -> Tensor:
        """As of `_PictureCoder`."""
        latent: Tensor = self.transform.decoder(decoded, torch.tensor([quality], device=decoded.device))
        return latent


class ExactIndexCoder(_PictureCoder):
    """Writes and reads the auto-encoder's codebook indices of one picture. Methods as of `ExactLatentCoder`."""

    def __init__(self, transform: IndexTransform, fingerprint: int) -> None:
        self.fingerprint = fingerprint
        self.transform = transform
        self.map = _CodebookMap(transform.z_quantiser, transform.z_counts)

    def encode(
        self, latent: Tensor, quality: Tensor, check: ContentCheck | None = None, refine: Refine | None = None
    ) -> StreamReport:
        """Codes a latent (1, N, h, w); there is one quality. Raises ValueError where it is to be refined."""
        if refine is not None:
            raise ValueError("weights that code the auto-encoder's indices have nothing to refine: use effort 0")
        writer, check = SymbolWriter(), check or ContentCheck()
        indices = self.transform.z_quantiser.nearest(self.transform.encode(latent, quality).z)
        bits, payload = self.map.write(indices, writer, check), writer.finish()
        if (account := current_account()) is not None:
            account.add_frame(len(payload), bits)
        return StreamReport(payload, check.digest(), 0.0, bits, bits, self.map.lookup(indices))

    def read_symbols(
        self, payload: bytes, height: int, width: int, device: torch.device, check: ContentCheck
    ) -> Tensor:
        """Code vectors (1, N, h, w)."""
        return self.map.lookup(self.map.read(height, width, SymbolReader(payload), check, device))

    def latent(self, decoded: Tensor, quality: int) -> Tensor:
        """The code vectors are the latent."""
        return decoded

    def drawn_latent(self) -> Tensor:
        """As of `_PictureCoder`."""
        return drawn_indices(self.map, self.map.codebook.device)
