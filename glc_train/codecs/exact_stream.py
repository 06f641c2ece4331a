"""Symbols of the image transform codec ⇄ bytes, in arithmetic that is the same everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from glc_train.bitstream import CategoricalTable, ContentCheck, GaussianTables, SymbolReader, SymbolWriter
from glc_train.layers import FRACTION_BITS, FiniteScalarQuantiser, VectorQuantiser, exact_copy, snap
from glc_train.transform import FactorisedGaussian, ImageTransform, IndexTransform, LatentDecoder, gaussian_bits


@dataclass(frozen=True)
class StreamReport:
    """Payload of one picture; what must agree; and its cost in bits (see `CompressResult`)."""

    payload: bytes
    content_check: int
    estimated_bits_y: float
    estimated_bits_z: float
    ideal_bits: float


class _FileStep:
    """Common part of writing and reading: scales become table indices, decoded values go back in place."""

    def __init__(self, tables: GaussianTables, check: ContentCheck) -> None:
        self.tables = tables
        self.check = check

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        where = mask.expand_as(mean)
        fixed = (scale[where] * 2**FRACTION_BITS).to(torch.int64).cpu().numpy()  # exact: scales lie on this grid
        index = self.tables.index(fixed)
        symbols = self.code(mean, where, scale, index)
        self.check.update(index)
        self.check.update(symbols)
        decoded = torch.zeros_like(mean)
        decoded[where] = torch.from_numpy(symbols.astype(np.float64)).to(mean.device) + mean[where]
        return decoded

    def code(self, mean: Tensor, where: Tensor, scale: Tensor, index: np.ndarray) -> np.ndarray:
        """Symbols int32 (n,) of the pass, in raster order of `where`."""
        raise NotImplementedError


class _Write(_FileStep):
    def __init__(self, tables: GaussianTables, check: ContentCheck, writer: SymbolWriter, target: Tensor) -> None:
        super().__init__(tables, check)
        self.writer = writer
        self.target = target
        self.ideal_bits = 0.0
        self.estimated_bits = 0.0

    def code(self, mean: Tensor, where: Tensor, scale: Tensor, index: np.ndarray) -> np.ndarray:
        rounded = torch.round(self.target[where] - mean[where])
        if not bool((rounded.abs() < 2.0**31).all()):  # false for NaN too
            raise ValueError("the networks gave values that no symbol can hold: the weights are damaged or diverged")
        symbols = rounded.cpu().numpy().astype(np.int32)
        self.writer.write_gaussian(symbols, index, self.tables)
        self.ideal_bits += self.tables.ideal_bits(symbols, index)
        self.estimated_bits += float(gaussian_bits(rounded, scale[where]).double().sum())
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
        every = torch.arange(quantiser.codes, device=counts.device).view(1, 1, -1)
        self.codebook = quantiser.lookup(every)[0, :, 0].t().detach().double()
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
        """Code vectors (1, C, h, w) float64."""
        return self.codebook[indices].permute(0, 3, 1, 2).contiguous()


class _GaussianMap:
    """A map of integers ⇄ bytes, each channel under its own Gaussian table. Methods as of `_CodebookMap`."""

    def __init__(self, prior: FactorisedGaussian, tables: GaussianTables) -> None:
        self.tables = tables
        self.mean = snap(prior.mean.detach().double())
        scale = snap(prior.scale.detach().double())
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
        """Decoded z (1, C, h, w) float64."""
        return indices.double() + self.mean.view(-1, 1, 1)


class ExactLatentCoder:
    """Writes and reads the symbols of one picture at a time, so that batches cannot matter.

    Args:
        transform: the trained transform codec; its decoder is copied.
        fingerprint: 16 bits that stand for its weights.
    """

    def __init__(self, transform: ImageTransform, fingerprint: int) -> None:
        self.fingerprint = fingerprint
        self.decoder = cast(LatentDecoder, exact_copy(transform.decoder))
        self.tables = GaussianTables()
        quantiser = transform.z_quantiser
        self.z_map: _CodebookMap | _GaussianMap = (
            _GaussianMap(quantiser, self.tables)
            if isinstance(quantiser, FactorisedGaussian)
            else _CodebookMap(quantiser, transform.z_counts)
        )
        self.transform = transform  # the encoder's side needs no exact copy

    def encode(self, latent: Tensor, quality: Tensor) -> StreamReport:
        """Codes a latent (1, N, h, w) at `quality` (1,) int64."""
        y = self.transform.analysis(latent, quality)
        return self.write(y, self.transform.z_quantiser.nearest(self.transform.hyper_analysis(y)))

    def write(self, y: Tensor, z_indices: Tensor) -> StreamReport:
        """Codes y (1, C, h, w) and z_indices (1, h/4, w/4), or (1, Cz, h/4, w/4) under the factorised prior."""
        writer, check = SymbolWriter(), ContentCheck()
        ideal_z = self.z_map.write(z_indices, writer, check)
        prior = self.decoder.parameters_of(self.z_map.lookup(z_indices))
        step = _Write(self.tables, check, writer, y.double() / prior.step)
        self.decoder.decode_y(prior, step)
        return StreamReport(writer.finish(), check.digest(), step.estimated_bits, ideal_z, ideal_z + step.ideal_bits)

    def read(
        self, payload: bytes, height: int, width: int, quality: int, device: torch.device, verify: Callable[[int], None]
    ) -> Tensor:
        """Decodes a payload.

        Args:
            payload: from `write`.
            height, width: h, w of the latent.
            quality: index for the synthesis.
            device: where to compute.
            verify: called with the content check before anything is built on the symbols; raises if they are wrong.

        Returns:
            latent_hat (1, N, h, w) float64.
        """
        reader, check = SymbolReader(payload), ContentCheck()
        indices = self.z_map.read(height // 4, width // 4, reader, check, device)
        prior = self.decoder.parameters_of(self.z_map.lookup(indices))
        y_hat = self.decoder.decode_y(prior, _Read(self.tables, check, reader))
        verify(check.digest())
        latent: Tensor = self.decoder(y_hat, torch.tensor([quality], device=device))
        return latent


class ExactIndexCoder:
    """Writes and reads the auto-encoder's codebook indices of one picture. Methods as of `ExactLatentCoder`."""

    def __init__(self, transform: IndexTransform, fingerprint: int) -> None:
        self.fingerprint = fingerprint
        self.quantiser = transform.z_quantiser
        self.map = _CodebookMap(transform.z_quantiser, transform.z_counts)

    def encode(self, latent: Tensor, quality: Tensor) -> StreamReport:
        """Codes a latent (1, N, h, w); there is one quality."""
        writer, check = SymbolWriter(), ContentCheck()
        bits = self.map.write(self.quantiser.nearest(latent), writer, check)
        return StreamReport(writer.finish(), check.digest(), 0.0, bits, bits)

    def read(
        self, payload: bytes, height: int, width: int, quality: int, device: torch.device, verify: Callable[[int], None]
    ) -> Tensor:
        """Decodes a payload to code vectors (1, N, h, w) float64."""
        reader, check = SymbolReader(payload), ContentCheck()
        indices = self.map.read(height, width, reader, check, device)
        verify(check.digest())
        return self.map.lookup(indices)
