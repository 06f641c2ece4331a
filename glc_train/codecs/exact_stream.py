"""Symbols of the image transform codec ⇄ bytes, in arithmetic that is the same everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from glc_train.bitstream import CategoricalTable, ContentCheck, GaussianTables, SymbolReader, SymbolWriter
from glc_train.layers import FRACTION_BITS, exact_copy
from glc_train.transform import ImageTransform, LatentDecoder, gaussian_bits


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


class ExactLatentCoder:
    """Writes and reads the symbols of one picture at a time, so that batches cannot matter.

    Args:
        transform: the trained transform codec; copied.
        fingerprint: 16 bits that stand for its weights.
    """

    def __init__(self, transform: ImageTransform, fingerprint: int) -> None:
        self.fingerprint = fingerprint
        self.decoder = cast(LatentDecoder, exact_copy(transform.decoder))
        self.codebook = transform.z_quantiser.embedding.weight.detach().double()
        self.z_table = CategoricalTable.from_counts(transform.z_counts.cpu().numpy())
        self.tables = GaussianTables()

    def _z_hat(self, z_indices: np.ndarray, height: int, width: int, device: torch.device) -> Tensor:
        flat = self.codebook[torch.from_numpy(z_indices.astype(np.int64)).to(device)]
        return flat.t().reshape(1, -1, height, width)

    def write(self, y: Tensor, z_indices: Tensor) -> StreamReport:
        """Codes y (1, C, h, w) and z_indices (1, h/4, w/4)."""
        writer, check = SymbolWriter(), ContentCheck()
        indices = z_indices.flatten().cpu().numpy().astype(np.int32)
        writer.write_categorical(indices, self.z_table)
        check.update(indices)
        ideal_z = self.z_table.ideal_bits(indices)
        height, width = z_indices.shape[-2:]
        prior = self.decoder.parameters_of(self._z_hat(indices, height, width, y.device))
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
        indices = reader.read_categorical(height // 4 * (width // 4), self.z_table)
        check.update(indices)
        prior = self.decoder.parameters_of(self._z_hat(indices, height // 4, width // 4, device))
        y_hat = self.decoder.decode_y(prior, _Read(self.tables, check, reader))
        verify(check.digest())
        latent: Tensor = self.decoder(y_hat, torch.tensor([quality], device=device))
        return latent
