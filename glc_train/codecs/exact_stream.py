"""Symbols of the image transform codec ⇄ bytes, in arithmetic that is the same everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from glc_train.bitstream import ContentCheck, GaussianTables, SymbolReader, SymbolWriter
from glc_train.codecs.bit_account import current_account
from glc_train.codecs.calibration import calibrate_pictures, drawn_indices, drawn_latent
from glc_train.codecs.symbol_maps import CodebookMap, SymbolMap, symbol_map
from glc_train.codecs.symbol_steps import ChooseStep, Fetched, Places, ReadStep, TableIndex
from glc_train.layers import exact_copy
from glc_train.transform import (
    ImageTransform,
    IndexTransform,
    LatentDecoder,
    PriorParameters,
    SymbolStep,
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


@dataclass(frozen=True)
class Chosen:
    """The symbols of one picture or frame, before they are bytes: the next frame needs no more than `decoded`.

    Attributes:
        decoded: as of `StreamReport`.
        pack: writes the payload; the argument is the check to go on with. It may be called in another thread.
    """

    decoded: Tensor
    pack: Callable[[ContentCheck], StreamReport]


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
        self.table_index = TableIndex(tables)
        self._places = Places()

    def choose(
        self,
        y: Tensor,
        z_indices: Tensor,
        parameters_of: Callable[[Tensor], PriorParameters],
        decode_y: Callable[[PriorParameters, SymbolStep], Tensor],
        rdoq: float = 0.0,
        adaptive: bool = False,
    ) -> Chosen:
        """Chooses the symbols of y (1, C, h, w), beside z_indices; on a GPU nothing waits for it.

        Args:
            y: before division by the step.
            z_indices: see `SymbolMap`.
            parameters_of: decoded z → parameters of pass 0, exact.
            decode_y: runs the passes, exact.
            rdoq: of `choose_symbols`.
            adaptive: whether the tables of z adapt, as in pictures from version 4 on.
        """
        prior = parameters_of(self.z_map.lookup(z_indices))
        step = ChooseStep(self.table_index, self._places, y.float() / prior.step, rdoq)
        y_hat = decode_y(prior, step)
        z, z_size, account = Fetched(z_indices), (z_indices.shape[-2], z_indices.shape[-1]), current_account()

        def pack(check: ContentCheck) -> StreamReport:
            writer = SymbolWriter()
            ideal_z = self.z_map.write(z.numpy(), z_size, writer, check, adaptive)
            ideal_y, estimated_y = step.write(writer, check, account)
            payload = writer.finish(self.implied)
            if account is not None:
                account.add_frame(len(payload), ideal_z)
            return StreamReport(payload, check.digest(), estimated_y, ideal_z, ideal_z + ideal_y, y_hat)

        return Chosen(y_hat, pack)

    def read(
        self,
        payload: bytes,
        z_size: tuple[int, int],
        device: torch.device,
        check: ContentCheck,
        parameters_of: Callable[[Tensor, SymbolReader], PriorParameters],
        decode_y: Callable[[PriorParameters, SymbolStep], Tensor],
        adaptive: bool = False,
    ) -> Tensor:
        """Reads what was packed: y_hat (1, C, h, w).

        Args:
            payload: as of `StreamReport`.
            z_size: height and width of the map of z.
            device: where to compute.
            check: to go on with.
            parameters_of: as of `choose`; also gets what knows how much of the payload is left.
            decode_y: as of `choose`.
            adaptive: as of `choose`.
        """
        reader = SymbolReader(payload)
        indices = self.z_map.read(z_size, reader, check, device, adaptive)
        return decode_y(
            parameters_of(self.z_map.lookup(indices), reader), ReadStep(self.table_index, self._places, check, reader)
        )


class _PictureCoder:
    """Common part of the coders of pictures: reading in two steps."""

    def read_symbols(
        self, payload: bytes, height: int, width: int, device: torch.device, check: ContentCheck, adaptive: bool = False
    ) -> Tensor:
        """What `StreamReport.decoded` was, from a payload.

        Args:
            payload: from `write`.
            height, width: h, w of the latent.
            device: where to compute.
            check: to go on with; whether it arrives at the encoder's is for the caller to see.
            adaptive: as of `ExactSymbols.choose`.
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

    def choose(self, latent: Tensor, quality: Tensor, refine: Refine | None = None, adaptive: bool = False) -> Chosen:
        """Chooses the symbols of a latent (1, N, h, w) at `quality` (1,) int64.

        refine: what is made of y before it is coded; None: nothing. adaptive: as of `ExactSymbols.choose`.
        """
        encoded = self.transform.encode(latent, quality)
        z_indices = self.transform.z_quantiser.nearest(encoded.z)
        if refine is not None:
            return self.choose_y(refine(encoded.y, self.symbols.z_map.lookup(z_indices)), z_indices, adaptive=adaptive)
        return self.choose_y(encoded.y, z_indices, self.transform.rdoq[int(quality)], adaptive)

    def choose_y(self, y: Tensor, z_indices: Tensor, rdoq: float = 0.0, adaptive: bool = False) -> Chosen:
        """Chooses for y (1, C, h, w) and z_indices (1, h/4, w/4), or (1, Cz, h/4, w/4) under the factorised prior.

        rdoq, adaptive: as of `ExactSymbols.choose`.
        """
        decoder = self.decoder
        return self.symbols.choose(y, z_indices, decoder.parameters_of, decoder.decode_y, rdoq, adaptive)

    def read_symbols(
        self, payload: bytes, height: int, width: int, device: torch.device, check: ContentCheck, adaptive: bool = False
    ) -> Tensor:
        """As of `_PictureCoder`."""
        decoder, z_size = self.decoder, (height // 4, width // 4)
        return self.symbols.read(payload, z_size, device, check, self._parameters_of, decoder.decode_y, adaptive)

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
            least += float(tables.least_bits[self.symbols.table_index(scale.flatten()).cpu().numpy()].sum())
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
        self.map = CodebookMap(transform.z_quantiser, transform.z_counts)

    def choose(self, latent: Tensor, quality: Tensor, refine: Refine | None = None, adaptive: bool = False) -> Chosen:
        """Of a latent (1, N, h, w); there is one quality, and no table adapts. Raises ValueError to refine it."""
        if refine is not None:
            raise ValueError("weights that code the auto-encoder's indices have nothing to refine: use effort 0")
        indices = self.transform.z_quantiser.nearest(self.transform.encode(latent, quality).z)
        decoded, fetched, account = self.map.lookup(indices), Fetched(indices), current_account()

        def pack(check: ContentCheck) -> StreamReport:
            writer = SymbolWriter()
            bits = self.map.write(fetched.numpy(), (indices.shape[-2], indices.shape[-1]), writer, check, False)
            payload = writer.finish()
            if account is not None:
                account.add_frame(len(payload), bits)
            return StreamReport(payload, check.digest(), 0.0, bits, bits, decoded)

        return Chosen(decoded, pack)

    def read_symbols(
        self, payload: bytes, height: int, width: int, device: torch.device, check: ContentCheck, adaptive: bool = False
    ) -> Tensor:
        """Code vectors (1, N, h, w)."""
        return self.map.lookup(self.map.read((height, width), SymbolReader(payload), check, device, False))

    def latent(self, decoded: Tensor, quality: int) -> Tensor:
        """The code vectors are the latent."""
        return decoded

    def drawn_latent(self) -> Tensor:
        """As of `_PictureCoder`."""
        return drawn_indices(self.map, self.map.codebook.device)
