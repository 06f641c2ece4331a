"""How much memory encoder and decoder need, as a whole and in stripes, from the sizes of their maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from glc_train.autoencoder.networks import Decoder, Downsample, Encoder, ResBlock, Upsample
from glc_train.autoencoder.stripes import STRIPE_BYTES, goes_as_it_grows, halves
from glc_train.layers import SpatialAttention, Swish, folded_bytes, prepared_bytes

_STRIPES = 18  # that exist at a time, with what the libraries take
_KEPT = 64 << 20  # of freed memory, by the allocator of the C library; in stripes it goes back
_FLOAT = 4
_PICTURE = 3 * _FLOAT  # bytes of a pixel


@dataclass(frozen=True)
class Footprint:
    """Bytes that a network takes beside its weights, with latent and decoded picture: as a whole, and in stripes.

    The picture that an encoder is given is there before, and does not count.

    Attributes:
        whole, stripes: of the two ways.
        prepared: what may be kept of weights that were prepared for the next picture; counted in neither.
    """

    whole: int
    stripes: int
    prepared: int

    @property
    def least(self) -> int:
        """Of the better way: small pictures are smaller than stripes."""
        return min(self.whole, self.stripes)


def footprint(
    network: Encoder | Decoder, height: int, width: int, size: int = _FLOAT, stripe: int = STRIPE_BYTES
) -> Footprint:
    """Of coding a picture of height × width pixels, multiples of the factor.

    Args:
        network: the encoder or the decoder.
        height, width: of the picture.
        size: bytes of a number.
        stripe: as of `encode_in_stripes`.
    """
    pixels = height * width
    encoding = isinstance(network, Encoder)
    if isinstance(network, Encoder):
        patch: int = network.unshuffle.downscale_factor**2
    else:
        patch = network.shuffle.upscale_factor**2
    levels = sum(isinstance(block, Downsample | Upsample) for block in network.blocks)
    area = pixels // patch if encoding else pixels // patch // 4**levels
    stem = network.blocks[0]
    assert isinstance(stem, nn.Conv2d)
    whole = [size * stem.out_channels * area + encoding * 2 * _PICTURE * pixels]
    stripes = [size * stem.out_channels * area]
    channels = stem.out_channels
    pointwise = network.quant_conv if isinstance(network, Encoder) else network.post_quant_conv
    prepared = _prepared(pointwise, area, size) + _prepared(stem, area, size)
    before: nn.Module = stem
    for block in network.blocks[1:-3]:
        prepared += _prepared(block, area, size)
        parts = _of_block(block, after=before)
        before = block
        whole.append(int(size * area * parts[0]))
        stripes.append(int(size * area * parts[1]))
        area = area // 4 if isinstance(block, Downsample) else area * 4 if isinstance(block, Upsample) else area
        channels = block.conv1.out_channels if isinstance(block, ResBlock) else channels
    prepared += _prepared(network.blocks[-1], area, size)
    if not encoding:
        whole.append(2 * size * channels * area + (size + 2 * _FLOAT) * 3 * pixels)
        stripes.append(size * channels * area + 2 * _PICTURE * pixels)
    signed = encoding * _PICTURE * pixels  # which stripes make a few rows at a time
    latent = _FLOAT * pointwise.in_channels * (pixels // (patch * 4**levels))
    return Footprint(signed + max(whole) + latent + _KEPT, max(stripes) + latent + _STRIPES * stripe, prepared)


def _prepared(block: nn.Module, area: int, size: int) -> int:
    """Bytes that may be kept of a block's weights, as it is used on a map of so many places."""
    if isinstance(block, Upsample):
        return folded_bytes(block.conv, size)
    convolutions = (layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
    return sum(prepared_bytes(layer, area, size) for layer in convolutions)


def as_built(network: Encoder | Decoder) -> bool:
    """Whether the blocks are those that its class makes, none added or put in another's place by the user."""
    first, *middle, _, before, last = network.blocks
    known = all(isinstance(block, ResBlock | SpatialAttention | Downsample | Upsample) for block in middle)
    return known and isinstance(first, nn.Conv2d) and isinstance(before, Swish) and isinstance(last, nn.Conv2d)


def _of_block(block: nn.Module, after: nn.Module) -> tuple[float, float]:
    """Numbers for each place of a block's input that exist at a time: as a whole, and in stripes."""
    if isinstance(block, ResBlock):
        into, out = block.conv1.in_channels, block.conv1.out_channels
        alone = isinstance(after, Downsample | Upsample) and halves(block)
        return into + max(2 * into, 3 * out), into if alone else into + out
    if isinstance(block, SpatialAttention):
        return 8 * block.q.in_channels, block.q.in_channels
    assert isinstance(block, Downsample | Upsample)
    channels = block.conv.in_channels
    if isinstance(block, Downsample):
        return 1.5 * channels, 1.25 * channels
    return 5 * channels, (4 if goes_as_it_grows(block, block.conv.weight.device) else 5) * channels
