"""Symbols of the video transform codec ⇄ bytes, in arithmetic that is the same everywhere; see `exact_stream`."""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from glc_train.bitstream import IMPLIED, ContentCheck, GaussianTables, SymbolReader
from glc_train.codecs.calibration import calibrate_frames
from glc_train.codecs.exact_stream import Chosen, ExactSymbols
from glc_train.codecs.symbol_maps import symbol_map
from glc_train.layers import exact_copy
from glc_train.transform import FrameContext, FrameDecoder, PriorParameters, VideoTransform

RefineFrame = Callable[[Tensor, Tensor, FrameContext], Tensor]
"""y (1, C, h, w), the decoded z (1, Cz, K, 1) and what the frame before says → another y for the same frame."""


class ExactFrameCoder:
    """Writes and reads the symbols of one conditional frame at a time, given the decoded latent of the one before.

    Args:
        transform: the trained transform codec; its decoder is copied.
        fingerprint: 16 bits that stand for all weights that decode a clip.
        start: (1, N, h, w), latent of a drawn picture, which calibrates the copy.
    """

    def __init__(self, transform: VideoTransform, fingerprint: int, start: Tensor) -> None:
        self.fingerprint = fingerprint
        self.decoder = cast(FrameDecoder, exact_copy(transform.decoder))
        tables = GaussianTables()
        z_map = symbol_map(transform.z_quantiser, transform.z_counts, tables)
        calibrate_frames(self.decoder, z_map, transform.tokens, start)
        self.symbols = ExactSymbols(z_map, tables, IMPLIED)
        self.transform = transform  # the encoder's side needs no exact copy
        self._made: tuple[int, torch.device, Tensor] | None = None

    def choose(
        self,
        latent: Tensor,
        previous: Tensor,
        adaptor: int | None,
        quality: int,
        refine: RefineFrame | None = None,
    ) -> tuple[Chosen, Tensor]:
        """Chooses the symbols of a latent (1, N, h, w).

        Args:
            latent: of the frame.
            previous: (1, N, h, w), the exact decoded latent of the frame before.
            adaptor: see `GOP.adaptor`.
            quality: index.
            refine: what is made of y before it is coded; None: nothing.

        Returns:
            The symbols, and latent_hat (1, N, h, w) as a decoder will have it.
        """
        decoder, level = self.decoder, self._level(quality, previous.device)
        given = decoder.context_of(previous, adaptor)
        encoded = self.transform.encode(latent, given, level)
        z_indices = self.transform.z_quantiser.nearest(encoded.z)
        parameters_of = partial(decoder.parameters_of, given=given)
        y = encoded.y if refine is None else refine(encoded.y, self.symbols.z_map.lookup(z_indices), given)
        chosen = self.symbols.choose(y, z_indices, parameters_of, decoder.decode_y)
        return chosen, decoder(chosen.decoded, given, level)

    def decode(
        self, payload: bytes, previous: Tensor, adaptor: int | None, quality: int, check: ContentCheck
    ) -> Tensor:
        """latent_hat (1, N, h, w) of a payload; `check` is gone on with, the other arguments are as of `choose`.

        Raises:
            FormatError: no encoder writes such a payload.
        """
        decoder, level = self.decoder, self._level(quality, previous.device)
        given = decoder.context_of(previous, adaptor)
        z_size = (self.transform.tokens, 1)

        def parameters_of(z_hat: Tensor, _: SymbolReader) -> PriorParameters:
            return decoder.parameters_of(z_hat, given)

        y_hat = self.symbols.read(payload, z_size, previous.device, check, parameters_of, decoder.decode_y)
        latent: Tensor = decoder(y_hat, given, level)
        return latent

    def _level(self, quality: int, device: torch.device) -> Tensor:
        """(1,) int64; made once, for a GPU would wait for it."""
        made = self._made
        if made is None or made[:2] != (quality, device):
            made = self._made = (quality, device, torch.tensor([quality], device=device))
        return made[2]
