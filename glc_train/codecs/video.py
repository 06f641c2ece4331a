"""The video codec: groups of pictures, each frame coded given the decoded latent of the one before."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from glc_train.autoencoder import VQVAE
from glc_train.codecs.exact_cache import ExactCache, weights_checksum
from glc_train.codecs.exact_frame import ExactFrameCoder
from glc_train.codecs.image import ImageCodec, ImageOutput, pad_to_multiple
from glc_train.transform import GainTransform, ImageTransform, Rounding, VideoTransform


@dataclass(frozen=True)
class GOP:
    """Which frame is coded how (GLC, TCSVT 2025). Frames count from 0; every intra period begins anew.

    Attributes:
        intra_period: frames from one intra frame to the next; `None`: only frame 0 is one. Published 96.
        pattern: adaptor of the temporal context, by the frame's place in its intra period.
        reset_interval: a chain of conditional frames starts anew so often; published 32.
    """

    intra_period: int | None = 96
    pattern: Sequence[int] = (0, 1, 0, 2, 0, 2, 0, 2)
    reset_interval: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", tuple(self.pattern))
        if self.intra_period is not None and self.intra_period < 1:
            raise ValueError(f"gop.intra_period must be at least 1 or null, not {self.intra_period}")
        if self.reset_interval < 1:
            raise ValueError(f"gop.reset_interval must be at least 1, not {self.reset_interval}")
        if not self.pattern or min(self.pattern) < 0:
            raise ValueError(f"gop.pattern must list adaptors, 0 or above, not {list(self.pattern)}")

    def position(self, t: int) -> int:
        """Place of frame t in its intra period."""
        return t if self.intra_period is None else t % self.intra_period

    def is_intra(self, t: int) -> bool:
        """Whether frame t is coded by the image codec."""
        return self.position(t) == 0

    def resets(self, t: int) -> bool:
        """Whether frame t starts a chain, whatever came before: the first of every `reset_interval` frames."""
        return (self.position(t) - 1) % self.reset_interval == 0

    def adaptor(self, t: int, has_y: bool) -> int | None:
        """Adaptor of the temporal context of frame t, `None` where a chain starts.

        `has_y`: whether frame t − 1 was coded conditionally.
        """
        return self.pattern[self.position(t) % len(self.pattern)] if has_y and not self.resets(t) else None


@dataclass(frozen=True)
class FrameState:
    """What one frame leaves to the next.

    Attributes:
        latent_hat: (B, N, h, w), its decoded latent.
        has_y: whether it was coded conditionally.
        index: its number t.
    """

    latent_hat: Tensor
    has_y: bool
    index: int


@dataclass(frozen=True, kw_only=True)
class FrameOutput(ImageOutput):
    """As of an image; `transform` is a `FrameTransformOutput` unless `intra`, and z_indices then (B, K, 1)."""

    index: int
    intra: bool


def expand_rdoq(rdoq: Sequence[float], levels: int) -> tuple[float, ...]:
    """`ImageTransform.rdoq` for `levels` quality indices, as `expand_quality` interpolates."""
    return tuple(np.interp(np.linspace(0, len(rdoq) - 1, levels), range(len(rdoq)), rdoq).tolist())


def _expand_gain(gain: Tensor, levels: int) -> Tensor:
    """(rows, C, 1, 1) → (levels, C, 1, 1), interpolated linearly: the same bits on every machine.

    IEEE 754 defines every operation here, in float64 and one by one; `lerp` and `linspace` round as they are compiled.
    """
    last, parts = gain.shape[0] - 1, max(levels - 1, 1)
    places = [divmod(level * last, parts) for level in range(levels)]
    low = torch.tensor([row for row, _ in places], device=gain.device)
    shares = [part / parts for _, part in places]
    weight = torch.tensor(shares, dtype=torch.float64, device=gain.device).view(-1, 1, 1, 1)
    below, above = gain[low].double(), gain[(low + 1).clamp_max(last)].double()
    return (below + (above - below) * weight).to(gain.dtype)


def expand_quality(codec: ImageCodec, levels: int) -> ImageCodec:
    """The codec with `levels` quality indices: gains interpolated linearly, both ends aligned.

    Quality q of the result is quality q · (rows − 1) / (levels − 1) of `codec`. The auto-encoder is shared, the
    transform copied.

    Raises:
        ValueError: the codec has no gains.
    """
    if not isinstance(codec.transform, ImageTransform):
        raise ValueError(f"frame 0 needs an image model with quality levels, not {type(codec.transform).__name__}")
    transform = copy.deepcopy(codec.transform)
    transform.quality_levels = levels
    transform.rdoq = expand_rdoq(codec.transform.rdoq, levels)
    for module in transform.modules():
        if isinstance(module, GainTransform):
            module.gain = nn.Parameter(_expand_gain(module.gain.detach(), levels), module.gain.requires_grad)
    expanded = ImageCodec(codec.autoencoder, transform).train(codec.training)
    expanded.compute_dtype = codec.compute_dtype
    return expanded


class VideoCodec(nn.Module):
    """GLC-video: the image codec for intra frames, a conditional transform codec for the others.

    Args:
        image: codec of intra frames; its quality levels are expanded to those of `transform`.
        transform: conditional transform codec.
        autoencoder: of the other frames; `None` shares the image codec's. The published model has a copy of its own.
        gop: which frame is coded how.

    Raises:
        ValueError: the parts do not fit each other.
    """

    def __init__(
        self, image: ImageCodec, transform: VideoTransform, autoencoder: VQVAE | None = None, gop: GOP | None = None
    ) -> None:
        super().__init__()
        self.gop = gop or GOP()
        if max(self.gop.pattern) >= transform.adaptors:
            raise ValueError(f"gop.pattern {list(self.gop.pattern)} goes beyond video.adaptors={transform.adaptors}")
        for name, network in (("image", image.autoencoder), ("video", autoencoder or image.autoencoder)):
            shape = (network.latent_channels, network.factor)
            if shape != (transform.latent_channels, image.autoencoder.factor):
                raise ValueError(
                    f"the {name} auto-encoder has {shape[0]} latent channels at 1/{shape[1]} of the size, not "
                    f"{transform.latent_channels} at 1/{image.autoencoder.factor}"
                )
        same = image.quality_levels == transform.quality_levels
        self.image = image if same else expand_quality(image, transform.quality_levels)
        self.transform = transform
        self.own_autoencoder = autoencoder
        self._exact: ExactCache[ExactFrameCoder] = ExactCache()
        self.float()  # whatever PyTorch's default type is

    @property
    def autoencoder(self) -> VQVAE:
        """The auto-encoder of conditional frames."""
        return self.own_autoencoder or self.image.autoencoder

    @property
    def quality_levels(self) -> int:
        """Quality indices are 0 (fewest bits) to quality_levels − 1."""
        return self.transform.quality_levels

    @property
    def multiple(self) -> int:
        """Sides are padded to multiples of this, in every frame alike."""
        return self.image.multiple

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.image.device

    @property
    def fingerprint(self) -> int:
        """16 bits of a checksum over all weights that decode a clip, those of the image codec included."""
        return self.weights_checksum() & 0xFFFF

    def weights_checksum(self) -> int:
        """32 bits over all weights that decode a clip, those of the image codec included."""
        transform = self.transform
        own = (transform.decoder, transform.z_quantiser, self.autoencoder.decoder)
        settings = (transform.tokens, transform.heads, *self.autoencoder.settings)
        return weights_checksum(own, transform.z_counts, settings, self.image.weights_checksum())

    def frame_coder(self) -> ExactFrameCoder:
        """The exact coder of the present weights; made anew when a weight has changed. `.glcv` files use it."""
        checksum = self.weights_checksum()
        key = (checksum, self.device, id(self.transform))
        return self._exact.get(key, lambda: ExactFrameCoder(self.transform, checksum & 0xFFFF))

    def encode_latent(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] of a conditional frame, sides multiples of `multiple` → latent (B, N, h, w)."""
        with self.image._autocast():
            latent: Tensor = self.autoencoder.encoder(x, self.autoencoder.window)
        return latent.float()

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Latent (B, N, h, w) of a conditional frame → picture (B, 3, f·h, f·w), about [-1, 1], not clamped."""
        with self.image._autocast():
            x_hat: Tensor = self.autoencoder.decoder(latent, self.autoencoder.window)
        return x_hat.float()

    def code_frame(
        self, x: Tensor, quality: int | Tensor, state: FrameState | None, rounding: Rounding = "hard"
    ) -> tuple[FrameOutput, FrameState]:
        """Codes the frame that follows `state`; `None`: frame 0.

        Args:
            x: (B, 3, H, W) in [-1, 1], any size, the same in all frames.
            quality: index, or (B,) int64.
            state: what the frame before left.
            rounding: "hard" or "ste".

        Returns:
            What was computed, and the state for the next frame.
        """
        t = 0 if state is None else state.index + 1
        if state is None or self.gop.is_intra(t):
            out = FrameOutput(**vars(self.image(x, quality, rounding)), index=t, intra=True)
        else:
            out = self._code_conditionally(x, quality, state, rounding)
        return out, FrameState(out.latent_hat, not out.intra, t)

    def _code_conditionally(
        self, x: Tensor, quality: int | Tensor, state: FrameState, rounding: Rounding
    ) -> FrameOutput:
        t = state.index + 1
        latent = self.encode_latent(pad_to_multiple(x, self.multiple))
        adaptor = self.gop.adaptor(t, state.has_y)
        level = self.image._quality(quality, x.shape[0])
        out = self.transform(latent, state.latent_hat, adaptor, level, rounding)
        x_hat = self.decode_latent(out.latent_hat)[..., : x.shape[-2], : x.shape[-1]]
        return FrameOutput(
            latent=latent,
            y=out.y,
            z_indices=out.z_indices,
            symbols=out.symbols,
            scales=out.scales,
            y_hat=out.y_hat,
            latent_hat=out.latent_hat,
            x_hat=x_hat,
            bits_y=out.bits_y,
            bits_z=out.bits_z,
            transform=out,
            index=t,
            intra=False,
        )

    def forward(self, clip: Tensor, quality: int | Tensor, rounding: Rounding = "hard") -> tuple[FrameOutput, ...]:
        """Codes and decodes a clip without writing bytes; the gradient runs through all frames.

        Args:
            clip: (B, T, 3, H, W) in [-1, 1], any size.
            quality: index, or (B,) int64.
            rounding: "hard" or "ste".

        Returns:
            What was computed for each of the T frames.
        """
        outputs = []
        state: FrameState | None = None
        for x in clip.unbind(1):
            out, state = self.code_frame(x, quality, state, rounding)
            outputs.append(out)
        return tuple(outputs)
