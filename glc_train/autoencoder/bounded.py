"""Encoder and decoder within the memory that there is: as a whole where that fits, else in stripes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn

from glc_train.autoencoder.footprint import as_built, footprint
from glc_train.autoencoder.networks import Decoder, Encoder
from glc_train.autoencoder.stripes import decode_in_stripes, encode_in_stripes
from glc_train.autoencoder.vqvae import VQVAE
from glc_train.layers import forget_prepared, keep_prepared, kept_bytes
from glc_train.memory import NotEnoughMemory, give_back, room, shown
from glc_train.pixels import signed


def run_encoder(autoencoder: VQVAE, x: Tensor, size: int, budget: int | None) -> Tensor:
    """The latent (B, N, h, w) of pictures x (B, 3, H, W).

    Args:
        autoencoder: with its `window`.
        x: in [-1, 1], or uint8 (`pixels.to_signed`), of which stripes are converted as they go; sides are multiples of
            the factor.
        size: bytes of a number that the networks compute with.
        budget: as of `memory.room`; where it does not even do for stripes, they take more: see `check_room`.
    """
    return _run(autoencoder.encoder, encode_in_stripes, x, autoencoder.window, (x.shape[-2], x.shape[-1]), size, budget)


def run_decoder(autoencoder: VQVAE, latent: Tensor, size: int, budget: int | None) -> Tensor:
    """The pictures (B, 3, H, W) of latents (B, N, h, w); the rest as of `run_encoder`."""
    sides = (latent.shape[-2] * autoencoder.factor, latent.shape[-1] * autoencoder.factor)
    return _run(autoencoder.decoder, decode_in_stripes, latent, autoencoder.window, sides, size, budget)


def check_room(
    network: nn.Module, sides: tuple[int, int], size: int, budget: int | None, device: torch.device, least: int = 0
) -> None:
    """Raises NotEnoughMemory where not even stripes of a picture of these sides fit.

    `least`: bytes that are needed anyway, before or after the network runs; the rest as of `run_encoder`.
    """
    if _bounded(network):
        need, there = max(footprint(network, *sides, size).least, least), room(device, budget)
        if there is not None and need > there:
            _tidy(network)
            there = room(device, budget)
        if there is not None and need > there:
            limit, advice = ("what is free", "free some")
            if budget is not None:
                limit, advice = f"the limit of {shown(budget)}", "raise the limit"
            raise NotEnoughMemory(
                f"{sides[1]}x{sides[0]} pixels need {shown(need)} of memory beside what is in use, but {limit} leaves "
                f"{shown(there)}: {advice}, compute in bfloat16, or cut the picture in parts."
            )


def _tidy(network: nn.Module) -> None:
    """Frees what is kept for later alone."""
    forget_prepared(network)
    give_back()


def _bounded(network: nn.Module) -> TypeGuard[Encoder | Decoder]:
    if torch.is_grad_enabled():  # gradients need all maps
        return False
    return isinstance(network, Encoder | Decoder) and type(network) in (Encoder, Decoder) and as_built(network)


def _run(
    network: nn.Module,
    in_stripes: Callable[..., Tensor],
    x: Tensor,
    window: int | None,
    sides: tuple[int, int],
    size: int,
    budget: int | None,
) -> Tensor:
    if not _bounded(network):
        out: Tensor = network(signed(x), window)
        return out
    there, need = room(x.device, budget), footprint(network, *sides, size)
    whole = len(x) * need.whole
    if there is not None and whole > there:
        _tidy(network)
        there = room(x.device, budget)
    fits = there is None or whole <= there
    new = max(0, need.prepared - kept_bytes(network))
    with keep_prepared(there is None or (whole if fits else need.stripes) + new <= there):
        if fits:
            return network(signed(x), window)
        parts = [in_stripes(network, one, window) for one in x.split(1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
