"""The video codec: groups of pictures, each frame coded given the decoded latent of the one before."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from glc_train.autoencoder import VQVAE
from glc_train.bitstream import MAX_PIXELS, ClipFormat
from glc_train.codecs.exact_cache import ExactCache, weights_checksum
from glc_train.codecs.exact_frame import ExactFrameCoder
from glc_train.codecs.gop import GOP, FrameState
from glc_train.codecs.image import ImageCodec, ImageOutput, pad_to_multiple
from glc_train.codecs.protocol import Codec, Reconstruction
from glc_train.codecs.video_stream import VideoDecoder, VideoEncoder
from glc_train.transform import FrameContext, GainTransform, ImageTransform, Rounding, VideoTransform


@dataclass(frozen=True, kw_only=True)
class FrameOutput(ImageOutput):
    """As of an image, but unless `intra` as of `FrameTransformOutput`."""

    index: int
    intra: bool
    frame_context: FrameContext | None = None


def expand_rdoq(rdoq: Sequence[float], levels: int) -> tuple[float, ...]:
    """`ImageTransform.rdoq` for `levels` quality indices, as `expand_quality` interpolates."""
    return tuple(np.interp(np.linspace(0, len(rdoq) - 1, levels), range(len(rdoq)), rdoq).tolist())


def _expand_gain(gain: Tensor, levels: int) -> Tensor:
    """(rows, C, 1, 1) → (levels, C, 1, 1), interpolated linearly: the same bits on every machine.

    IEEE 754 defines every operation here, in float64 and one by one; `lerp` and `linspace` round as they are compiled.
    """
    if gain.is_meta:  # no values: to come to the same shape by computing, PyTorch would import its compiler
        return gain.new_empty((levels, *gain.shape[1:]))
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


class VideoCodec(Codec):
    """GLC-video: the image codec for intra frames, a conditional transform codec for the others.

    Args:
        image: codec of intra frames; its quality levels are expanded to those of `transform`.
        transform: conditional transform codec.
        autoencoder: of the other frames; `None` shares the image codec's. The published model has a copy of its own.
        gop: which frame is coded how.

    Raises:
        ValueError: the parts do not fit each other.
    """

    suffix = ".glcv"
    takes_clips = True
    transform: VideoTransform

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
    def autoencoder(self) -> VQVAE:  # type: ignore[override]  # a shared one must not be saved twice
        """The auto-encoder of conditional frames."""
        return self.own_autoencoder or self.image.autoencoder

    @property
    def compute_dtype(self) -> torch.dtype:
        """As of `Codec`; intra frames and the others have one."""
        return self.image.compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype) -> None:
        self.image.compute_dtype = dtype

    @property
    def multiple(self) -> int:
        """Sides are padded to multiples of this, in every frame alike."""
        return self.image.multiple

    @property
    def summary(self) -> str:
        """As of `Codec`."""
        return f"{self.transform.summary}; intra {self.image.summary}"

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """As of `Codec`."""
        return self.image.latent_size(height, width)

    def weights_checksum(self) -> int:
        """As of `Codec`, the weights of the image codec included."""
        transform = self.transform
        own = (transform.decoder, transform.z_quantiser, self.autoencoder.decoder)
        settings = (transform.tokens, transform.heads, *self.autoencoder.settings)
        return weights_checksum(own, transform.z_counts, settings, self.image.weights_checksum())

    def prepare(self) -> None:
        """As of `Codec`."""
        self.image.prepare()
        self.frame_coder()

    def encoder(self, quality: int, clip: ClipFormat, out: BinaryIO, reconstruct: bool = False) -> VideoEncoder:
        """As of `Codec`."""
        return VideoEncoder(self, quality, clip, out, reconstruct=reconstruct)

    def decoder(self, source: BinaryIO, name: str = "The file", max_pixels: int | None = MAX_PIXELS) -> VideoDecoder:
        """As of `Codec`."""
        return VideoDecoder(self, source, name, max_pixels)

    def frame_coder(self) -> ExactFrameCoder:
        """The exact coder of the present weights; made anew when a weight has changed. `.glcv` files use it."""
        checksum = self.weights_checksum()
        key = (checksum, self.device, id(self.transform))

        def make() -> ExactFrameCoder:
            return ExactFrameCoder(self.transform, checksum & 0xFFFF, self.image.picture_coder().drawn_latent())

        return self._exact.get(key, make)

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
        level = self.quality_indices(quality, x.shape[0])
        out = self.transform(latent, state.latent_hat, adaptor, level, rounding)
        x_hat = self.decode_latent(out.latent_hat)[..., : x.shape[-2], : x.shape[-1]]
        return FrameOutput(**vars(out), latent=latent, x_hat=x_hat, index=t, intra=False)

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

    def reconstruct(self, x: Tensor, quality: int | Tensor) -> Reconstruction:
        """As of `Codec`; pictures are intra frames."""
        frames = self(x if x.ndim == 5 else x[:, None], quality)
        x_hat = torch.stack([frame.x_hat for frame in frames], 1)
        bits = torch.stack([frame.bits_y + frame.bits_z for frame in frames], 1)
        return Reconstruction(x_hat.reshape(x.shape), bits.reshape(x.shape[:-3]))

    def hyper_indices(self, x: Tensor, quality: int | Tensor) -> Tensor:
        """As of `Codec`: those of the conditional frames, so of pictures none."""
        frames = self(x if x.ndim == 5 else x[:, None], quality)
        found = [frame.z_indices.flatten() for frame in frames if not frame.intra]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64, device=x.device)
