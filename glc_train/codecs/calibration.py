"""Exponents of the exact arithmetic, from the weights alone: what the model itself draws passes through its layers.

So every user of the weights has the same exponents, whoever made the file, and none depends on pictures. docs/format.md
says what is drawn, step by step.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from glc_train.layers import calibrate
from glc_train.transform import SCALE_MIN, FrameDecoder, LatentDecoder

_SIDE = 6  # of the map of z
_SCALE_MAX = 64.0  # the largest of the tables
_MOST_LEVELS = 4  # of quality


class Draws:
    """Pseudo-random numbers, the same everywhere: bytes of MT19937 with the seed 0."""

    def __init__(self) -> None:
        self._random = np.random.RandomState(0)  # whose streams NumPy promises not to change

    def integers(self, n: int) -> np.ndarray:
        """Uniform in [0, 2^24), int64 (n,): three bytes each, the highest first."""
        parts = np.frombuffer(self._random.bytes(3 * n), np.uint8).reshape(n, 3).astype(np.int64)
        whole: np.ndarray = parts @ np.array([65536, 256, 1])
        return whole

    def normal(self, n: int) -> np.ndarray:
        """About Gaussian, of variance 1, float32 (n,): the sum of twelve bytes, less its mean, divided by 256."""
        parts = np.frombuffer(self._random.bytes(12 * n), np.uint8).reshape(n, 12).sum(1, dtype=np.int64)
        return ((parts - 1530) / 256).astype(np.float32)


class DrawnMap(Protocol):
    """What can draw a map of z: see `exact_stream.SymbolMap`."""

    def draw(self, draws: Draws, height: int, width: int, device: torch.device) -> Tensor:
        """Decoded z (1, Cz, h, w)."""
        ...


class _DrawStep:
    """A `SymbolStep` of drawn symbols."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        where = mask.expand_as(mean)
        noise = torch.from_numpy(self.draws.normal(int(where.sum()))).to(mean.device)
        decoded = torch.zeros_like(mean)
        decoded[where] = (scale[where].clamp(SCALE_MIN, _SCALE_MAX) * noise).round() + mean[where]
        return decoded


def _levels(decoder: LatentDecoder | FrameDecoder) -> list[int]:
    """Up to four qualities, from the lowest to the highest."""
    last = len(decoder.synthesis.gain) - 1
    steps = min(last, _MOST_LEVELS - 1)
    return [step * last // steps for step in range(steps + 1)] if steps else [0]


@torch.no_grad()
def calibrate_pictures(decoder: LatentDecoder, z_map: DrawnMap) -> None:
    """Finds the exponents of an exact copy. Raises ValueError for damaged weights."""
    draws, device = Draws(), decoder.synthesis.gain.device

    def run() -> None:
        prior = decoder.parameters_of(z_map.draw(draws, _SIDE, _SIDE, device))
        y_hat = decoder.decode_y(prior, _DrawStep(draws))
        for level in _levels(decoder):
            decoder(y_hat, torch.tensor([level], device=device))

    calibrate(decoder, run)


@torch.no_grad()
def calibrate_frames(decoder: FrameDecoder, z_map: DrawnMap, tokens: int, start: Tensor) -> None:
    """Finds the exponents of an exact copy, given the latent (1, N, h, w) of a drawn picture. Raises ValueError."""
    draws, device = Draws(), start.device

    def run() -> None:
        previous = start
        for adaptor in (None, *range(len(decoder.context_model.adaptors))):
            given = decoder.context_of(previous, adaptor)
            prior = decoder.parameters_of(z_map.draw(draws, tokens, 1, device), given)
            y_hat = decoder.decode_y(prior, _DrawStep(draws))
            for level in _levels(decoder):
                previous = decoder(y_hat, given, torch.tensor([level], device=device))

    calibrate(decoder, run)


@torch.no_grad()
def drawn_indices(codes: DrawnMap, device: torch.device) -> Tensor:
    """The latent (1, N, h, w) of a drawn picture of indices alone, as large as that of `drawn_latent`."""
    return codes.draw(Draws(), 4 * _SIDE, 4 * _SIDE, device)


@torch.no_grad()
def drawn_latent(decoder: LatentDecoder, z_map: DrawnMap) -> Tensor:
    """The latent (1, N, h, w) of a drawn picture, of middle quality, by a calibrated decoder."""
    draws, levels, device = Draws(), _levels(decoder), decoder.synthesis.gain.device
    prior = decoder.parameters_of(z_map.draw(draws, _SIDE, _SIDE, device))
    level = torch.tensor([levels[len(levels) // 2]], device=device)
    latent: Tensor = decoder(decoder.decode_y(prior, _DrawStep(draws)), level)
    return latent
