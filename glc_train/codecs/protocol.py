"""What every codec does, of pictures or of clips: a picture is a clip of one frame."""

import io
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from glc_train.autoencoder import VQVAE, check_room, run_decoder, run_encoder
from glc_train.bitstream import (
    MAX_PIXELS,
    ClipFormat,
    Damage,
    FormatError,
    FrameKind,
    ImageHeader,
    VideoHeader,
    check_fingerprint,
)
from glc_train.memory import parse
from glc_train.transform import ImageTransform, VideoTransform

if TYPE_CHECKING:
    from glc_train.effort import Refiner

_SYMBOL_MAPS = 24  # of the latent's size in float32, that exist while symbols are chosen; fewer while they are read


@dataclass(frozen=True)
class Reconstruction:
    """What is left of pictures or clips after coding, without a file.

    Attributes:
        x_hat: of the input's shape, about [-1, 1], not clamped.
        bits: (B,) of pictures, (B, T) of clips: estimated bits of each frame.
    """

    x_hat: Tensor
    bits: Tensor


@dataclass(frozen=True)
class FrameReport:
    """One frame that was written.

    Attributes:
        index: its number, from 0.
        kind: how it was coded; a picture is "intra".
        size: bytes that it took of the file.
        estimated_bits, ideal_bits: as of `CompressResult`; 0 for a repeated frame.
        picture: uint8 (H, W, 3), what a decoder will show, if it was asked for.
    """

    index: int
    kind: FrameKind
    size: int
    estimated_bits: float
    ideal_bits: float
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class DecodedFrame:
    """One frame that was read: number, picture uint8 (H, W, 3), how it was coded, bytes that it took of the file."""

    index: int
    picture: np.ndarray
    kind: FrameKind
    size: int


class FrameEncoder(ABC):
    """Writes a file frame by frame, in a `with` statement; one that is left by an error stays without its end.

    Attributes:
        header: what the file says of its frames.
        size: bytes written so far.
    """

    header: ClipFormat
    size: int

    @abstractmethod
    def write(self, picture: np.ndarray) -> FrameReport:
        """Codes the next frame, uint8 (H, W, 3). Raises ValueError where the file cannot hold it."""

    def write_all(self, pictures: Iterable[np.ndarray]) -> Iterator[FrameReport]:
        """Codes the next frames, each as `write` does, and may code several at a time; yields their reports in order.

        The caller must take all reports before the file is closed.
        """
        return map(self.write, pictures)

    def close(self) -> None:  # noqa: B027 - most have none
        """Writes the end of the file, if such files have one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


class FrameDecoder(ABC):
    """Reads a file: iterating it gives the frames that can be decoded, and fills `damages` with what was lost.

    Attributes:
        header: what the file says of its frames.
        damages: what was lost so far; complete when the iteration has ended.
        frames: how many the file has; None until its end has been read.
        size: bytes of the frames that were decoded so far.
    """

    header: ImageHeader | VideoHeader
    damages: list[Damage]
    frames: int | None
    size: int

    @abstractmethod
    def seek(self, frame: int) -> None:
        """Makes the iteration begin at `frame`, 0 or later. Raises ValueError where a pipe has gone beyond it."""

    @abstractmethod
    def __iter__(self) -> Iterator[DecodedFrame]: ...


@dataclass(frozen=True)
class ClipResult:
    """A compressed clip: the file, and what each of its frames took."""

    data: bytes
    frames: tuple[FrameReport, ...]


def spread_qualities(levels: int, count: int = 4) -> list[int]:
    """At most `count` of the qualities 0 to levels − 1, evenly from the lowest to the highest; of 64: 0, 21, 42, 63."""
    return sorted({round(k * (levels - 1) / max(1, count - 1)) for k in range(count)})


def shown_levels(levels: int) -> list[int]:
    """The qualities that are logged, shown and evaluated by default: all up to eight, else `spread_qualities`."""
    return list(range(levels)) if levels <= 8 else spread_qualities(levels)


class Codec(nn.Module, ABC):
    """A codec with its weights. Pictures are (B, 3, H, W) and clips (B, T, 3, H, W), in [-1, 1], of any size.

    Attributes:
        suffix: of its files, with the dot.
        takes_clips: whether it codes clips; else pictures alone.
        autoencoder, transform: of the conditional frames where there are any.
        compute_dtype: in which the auto-encoders compute, float32 or bfloat16; weights stay float32.
        memory: bytes that the process may have on the codec's device; None: most of what is free. What does not fit as
            a whole is computed in stripes, with the same results.
        refiner: what every file is refined with, unless told otherwise; None: nothing.
    """

    memory: int | None = None
    refiner: "Refiner | None" = None

    suffix: ClassVar[str]
    takes_clips: ClassVar[bool] = False
    autoencoder: VQVAE
    transform: ImageTransform | VideoTransform
    compute_dtype: torch.dtype

    @property
    def quality_levels(self) -> int:
        """Quality indices are 0 (fewest bits) to quality_levels − 1."""
        return self.transform.quality_levels

    @property
    def latent_channels(self) -> int:
        """N of the latent (B, N, h, w)."""
        return self.autoencoder.latent_channels

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.transform.z_counts.device

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Sides are padded to multiples of this."""

    @abstractmethod
    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latent of a frame of height × width pixels."""

    def encode_latent(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] or uint8, sides multiples of `multiple` → latent (B, N, h, w)."""
        with self.autocast():
            latent = run_encoder(self.autoencoder, x, self.compute_dtype.itemsize, self.memory)
        return latent.float()

    def decode_latent(self, latent: Tensor) -> Tensor:
        """Latent (B, N, h, w) → (B, 3, f·h, f·w), about [-1, 1], not clamped."""
        with self.autocast():
            x_hat = run_decoder(self.autoencoder, latent, self.compute_dtype.itemsize, self.memory)
        return x_hat.float()

    def compile_networks(self, **options: Any) -> None:
        """Compiles encoder and decoder by `torch.compile`, which needs a C++ compiler: the first picture waits for it.

        Args:
            options: of `torch.compile`. Unless told otherwise, every size of picture is compiled for itself.
        """
        for network in (self.autoencoder.encoder, self.autoencoder.decoder):
            network.compile(**({"dynamic": False} | options))

    def limit_memory(self, budget: int | str | None) -> None:
        """Sets `memory`, also of a codec inside this one.

        Args:
            budget: bytes, or a text such as "4G".

        Raises:
            ValueError: the text is no size.
        """
        for part in self.modules():
            if isinstance(part, Codec):
                part.memory = parse(budget) if isinstance(budget, str) else budget

    def check_memory(self, network: nn.Module, height: int, width: int) -> None:
        """Raises NotEnoughMemory where encoder or decoder need more for height × width pixels, even in stripes.

        So does what is coded, which can need more than a network in bfloat16.
        """
        sides = (-(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple)
        symbols = _SYMBOL_MAPS * 4 * self.latent_channels * math.prod(self.latent_size(height, width))
        check_room(network, sides, self.compute_dtype.itemsize, self.memory, self.device, symbols)

    @abstractmethod
    def reconstruct(self, x: Tensor, quality: int | Tensor) -> Reconstruction:
        """Codes and decodes pictures or clips without writing bytes.

        Args:
            x: (B, 3, H, W) or (B, T, 3, H, W) in [-1, 1], any size.
            quality: index, or (B,) int64.

        Raises:
            ValueError: there is no such quality.
        """

    @abstractmethod
    def hyper_indices(self, x: Tensor, quality: int | Tensor) -> Tensor:
        """All indices of z (n,) int64 that coding x, as of `reconstruct`, writes under `transform.z_counts`."""

    @abstractmethod
    def weights_checksum(self) -> int:
        """32 bits over all weights that a decoder uses; `fingerprint` is the low half of them."""

    @property
    def fingerprint(self) -> int:
        """16 bits of a checksum over all weights that a decoder uses; every file carries them."""
        return self.weights_checksum() & 0xFFFF

    @abstractmethod
    def prepare(self) -> None:
        """Makes what files are coded with, which the first file would wait for."""

    def refiner_of(self, effort: "Refiner | int | None" = None) -> "Refiner | None":
        """What files are refined with: an effort, a refiner, or else the codec's `refiner`; None: nothing."""
        if isinstance(effort, int):
            from glc_train.effort import Refiner  # with networks that files without effort do not need

            effort = Refiner(effort)
        refiner = self.refiner if effort is None else effort
        return refiner if refiner is not None and refiner.effort > 0 else None

    @abstractmethod
    def encoder(self, quality: int, clip: ClipFormat, out: BinaryIO, reconstruct: bool = False) -> FrameEncoder:
        """What writes a file.

        Args:
            quality: 0 to quality_levels − 1.
            clip: size of the frames and, for clips, their rate.
            out: where to write; a pipe will do.
            reconstruct: whether `write` returns what a decoder will show, which costs the time of decoding.

        Raises:
            ValueError: no such quality, or a field of the header is out of range.
        """

    @abstractmethod
    def decoder(self, source: BinaryIO, name: str = "The file", max_pixels: int | None = MAX_PIXELS) -> FrameDecoder:
        """What reads a file.

        Args:
            source: where to read; a pipe will do.
            name: begins the messages, the file's path, say.
            max_pixels: larger frames are refused before anything is allocated for them; None: there is no limit.

        Raises:
            FormatError: no such file, written with other weights, or of too large frames.
        """

    def check_made_for(self, header: ImageHeader | VideoHeader, fingerprint: int, name: str) -> None:
        """Raises FormatError where the file `name` was written with weights of another fingerprint than this one."""
        check_fingerprint(header, fingerprint, name)
        if header.quality >= self.quality_levels:
            raise FormatError(
                f"{name} asks for quality {header.quality}, but the loaded weights know only 0 to "
                f"{self.quality_levels - 1}: load the weights it was written with."
            )

    @property
    def summary(self) -> str:
        """One line for people, about the transform codec."""
        return f"{self.transform.summary}, {self.quality_levels} qualities"

    def autocast(self) -> torch.autocast:
        """The context in which an auto-encoder computes in `compute_dtype`."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.compute_dtype == torch.bfloat16)

    def quality_indices(self, quality: int | Tensor, batch: int) -> Tensor:
        """(B,) int64 on the codec's device, of one index for all or as it is. Raises ValueError for no such index."""
        if isinstance(quality, Tensor):
            return quality
        level = operator.index(quality)
        if not 0 <= level < self.quality_levels:
            raise ValueError(f"quality must be 0 to {self.quality_levels - 1}, not {level}")
        return torch.full((batch,), level, dtype=torch.int64, device=self.device)


def compress_clip(codec: Codec, frames: Iterable[np.ndarray], quality: int, clip: ClipFormat) -> ClipResult:
    """Compresses pictures uint8 (H, W, 3) to a file in memory; arguments as of `Codec.encoder`."""
    out = io.BytesIO()
    with codec.encoder(quality, clip, out) as encoder:
        reports = tuple(encoder.write_all(frames))
    return ClipResult(out.getvalue(), reports)


def decompress_clip(codec: Codec, data: bytes, max_pixels: int | None = MAX_PIXELS) -> list[np.ndarray]:
    """Decodes a file to pictures uint8 (H, W, 3); arguments as of `Codec.decoder`.

    Raises:
        FormatError: as of `Codec.decoder`, or damaged anywhere: the decoder gives what is left.
    """
    decoder = codec.decoder(io.BytesIO(data), max_pixels=max_pixels)
    pictures = [frame.picture for frame in decoder]
    if decoder.damages:
        raise FormatError("The file is damaged: " + "; ".join(map(str, decoder.damages)))
    return pictures
