"""The image codec: picture ⇄ `.glc` bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glc_train.autoencoder import VQVAE
from glc_train.bitstream import (
    MAX_PIXELS,
    MAX_SIDE,
    ClipFormat,
    ContentCheck,
    ImageHeader,
    check_content,
    check_pixels,
    pack_image,
    unpack_image,
)
from glc_train.codecs.exact_cache import ExactCache, weights_checksum
from glc_train.codecs.exact_stream import ExactIndexCoder, ExactLatentCoder, Refine
from glc_train.codecs.picture_file import PictureDecoder, PictureEncoder
from glc_train.codecs.protocol import Codec, Reconstruction
from glc_train.pixels import picture_to_levels, signed, tensor_to_picture
from glc_train.transform import ImageTransform, IndexTransform, Rounding, TransformOutput

if TYPE_CHECKING:
    from glc_train.effort import Refiner


@dataclass(frozen=True)
class ImageOutput(TransformOutput):
    """What the codec makes of pictures: what the transform codec computed, and both ends of the auto-encoder.

    Attributes:
        latent: (B, N, h, w), of the auto-encoder.
        x_hat: (B, 3, H, W) about [-1, 1], not clamped, cropped to the input's size.
    """

    latent: Tensor
    x_hat: Tensor


@dataclass(frozen=True)
class CompressResult:
    """A compressed picture and its cost in bits.

    Attributes:
        data: the file.
        estimated_bits: of y under the model's Gaussians, and of z under its tables.
        ideal_bits: code length of the same symbols under the coder's integer tables.
        estimated_bits_y, estimated_bits_z: parts of the estimate.
    """

    data: bytes
    estimated_bits: float
    ideal_bits: float
    estimated_bits_y: float
    estimated_bits_z: float


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pads (B, C, H, W) right and bottom by replication to multiples of `multiple`."""
    height, width = x.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    if x.is_floating_point():
        return F.pad(x, (0, right, 0, bottom), mode="replicate")
    # older releases of PyTorch replicate floats alone
    x = torch.cat([x, x[..., -1:].expand(*x.shape[:-1], right)], -1)
    return torch.cat([x, x[..., -1:, :].expand(*x.shape[:-2], bottom, -1)], -2)


def decoded_picture(x: Tensor) -> np.ndarray:
    """`tensor_to_picture` of what a decoder gave. Raises ValueError for infinities and NaN, which would turn black."""
    if not bool(x.isfinite().all()):
        raise ValueError("the networks gave pixels that are no numbers: the weights are damaged or diverged")
    return tensor_to_picture(x)


class ImageCodec(Codec):
    """GLC-image: a generative auto-encoder and a transform codec over its latent.

    Args:
        autoencoder: picture ⇄ latent.
        transform: latent ⇄ symbols; None: the auto-encoder's codebook indices are coded by themselves.

    Raises:
        ValueError: the parts do not fit each other.
    """

    suffix = ".glc"
    transform: ImageTransform

    def __init__(self, autoencoder: VQVAE, transform: ImageTransform | None) -> None:
        super().__init__()
        if transform is not None and transform.latent_channels != autoencoder.latent_channels:
            raise ValueError(
                f"the auto-encoder has {autoencoder.latent_channels} latent channels, not {transform.latent_channels}"
            )
        self.autoencoder = autoencoder
        # Typed as what it is but for that comparison; `isinstance` tells the two apart.
        self.transform = transform or cast(ImageTransform, IndexTransform(autoencoder.quantiser))
        self.compute_dtype = torch.float32
        self._exact: ExactCache[ExactLatentCoder | ExactIndexCoder] = ExactCache()
        self.float()  # whatever PyTorch's default type is

    @property
    def multiple(self) -> int:
        """Sides are padded to multiples of this."""
        return self.autoencoder.factor * self.transform.hyper_factor

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latent of a picture of height × width pixels."""
        factor = self.transform.hyper_factor
        return -(-height // self.multiple) * factor, -(-width // self.multiple) * factor

    def forward(self, x: Tensor, quality: int | Tensor, rounding: Rounding = "hard") -> ImageOutput:
        """Codes and decodes without writing bytes.

        Args:
            x: (B, 3, H, W) in [-1, 1], any size.
            quality: index, or (B,) int64.
            rounding: "hard" or "ste".
        """
        for network in (self.autoencoder.encoder, self.autoencoder.decoder):
            self.check_memory(network, *x.shape[-2:])
        latent = self.encode_latent(pad_to_multiple(x, self.multiple))
        out = self.transform(latent, self.quality_indices(quality, x.shape[0]), rounding)
        x_hat = self.decode_latent(out.latent_hat)[..., : x.shape[-2], : x.shape[-1]]
        return ImageOutput(**vars(out), latent=latent, x_hat=x_hat)

    def reconstruct(self, x: Tensor, quality: int | Tensor) -> Reconstruction:
        """As of `Codec`; every frame of a clip is a picture."""
        level = self.quality_indices(quality, len(x))
        if x.ndim == 5:
            level = level.repeat_interleave(x.shape[1])
        out = self(x.reshape(-1, *x.shape[-3:]), level)
        return Reconstruction(out.x_hat.reshape(x.shape), (out.bits_y + out.bits_z).reshape(x.shape[:-3]))

    def hyper_indices(self, x: Tensor, quality: int | Tensor) -> Tensor:
        """As of `Codec`."""
        pictures = pad_to_multiple(x.reshape(-1, *x.shape[-3:]), self.multiple)
        level = self.quality_indices(quality, len(x)).repeat_interleave(len(pictures) // len(x))
        z = self.transform.encode(self.encode_latent(pictures), level).z
        return self.transform.z_quantiser.nearest(z).flatten()

    # ------------------------------------------------------------------ files

    def picture_coder(self) -> ExactLatentCoder | ExactIndexCoder:
        """The exact coder of the present weights; made anew when a weight has changed. `.glc` files use it."""
        kind: Any = ExactIndexCoder if isinstance(self.transform, IndexTransform) else ExactLatentCoder
        checksum = self.weights_checksum()
        key = (checksum, self.device, id(self.transform))
        return self._exact.get(key, lambda: kind(self.transform, checksum & 0xFFFF))

    def weights_checksum(self) -> int:
        """As of `Codec`."""
        parts = (*self.transform.decoder_parts, self.autoencoder.decoder)
        return weights_checksum(parts, self.transform.z_counts, self.autoencoder.settings)

    def prepare(self) -> None:
        """As of `Codec`."""
        self.picture_coder()

    def encoder(self, quality: int, clip: ClipFormat, out: BinaryIO, reconstruct: bool = False) -> PictureEncoder:
        """As of `Codec`; the clip has one frame, and its rate does not matter."""
        return PictureEncoder(self, quality, clip, out, reconstruct)

    def decoder(self, source: BinaryIO, name: str = "The file", max_pixels: int | None = MAX_PIXELS) -> PictureDecoder:
        """As of `Codec`; the iteration raises FormatError for a damaged picture."""
        return PictureDecoder(self, source, name, max_pixels)

    @torch.inference_mode()
    def compress_with_report(
        self, picture: np.ndarray, quality: int, effort: Refiner | int | None = None
    ) -> CompressResult:
        """Compresses a picture uint8 (H, W, 3); see `compress`. Also tells what the bits are."""
        level = int(self.quality_indices(quality, 1)[0])
        if max(picture.shape[:2], default=0) > MAX_SIDE:  # the container could not hold it: say so before the work
            raise ValueError(f"a .glc picture has sides of at most {MAX_SIDE} pixels, not {picture.shape[:2]}")
        x = pad_to_multiple(picture_to_levels(picture), self.multiple)
        if self.device.type != "cpu":
            x = signed(x).to(self.device)  # a GPU rounds the quotient otherwise
        self.check_memory(self.autoencoder.encoder, *picture.shape[:2])
        latent = self.encode_latent(x)
        refine = None
        if (refiner := self.refiner_of(effort)) is not None:
            from glc_train.effort import of_picture

            def refine(y: Tensor, z_hat: Tensor) -> Tensor:
                return refiner.refine(of_picture(self, signed(x), y, z_hat, self.quality_indices(level, 1)))

        return self._pack(latent, (picture.shape[0], picture.shape[1]), level, refine)

    def _pack(
        self, latent: Tensor, size: tuple[int, int], quality: int, refine: Refine | None = None
    ) -> CompressResult:
        """The file of a latent (1, N, h, w) of a picture of `size`; `refine` as of `ExactLatentCoder.choose`."""
        coder, (height, width) = self.picture_coder(), size
        check = ContentCheck(width, height, quality)
        stream = coder.choose(latent, self.quality_indices(quality, 1), refine, adaptive=True).pack(check)
        header = ImageHeader(
            width=width,
            height=height,
            quality=quality,
            fingerprint=coder.fingerprint,
            content_check=stream.content_check,
        )
        return CompressResult(
            data=pack_image(header, stream.payload),
            estimated_bits=stream.estimated_bits_y + stream.estimated_bits_z,
            ideal_bits=stream.ideal_bits,
            estimated_bits_y=stream.estimated_bits_y,
            estimated_bits_z=stream.estimated_bits_z,
        )

    def compress(self, picture: np.ndarray, quality: int, effort: Refiner | int | None = None) -> bytes:
        """Compresses a picture.

        Args:
            picture: uint8 (H, W, 3), 1×1 to 65,536×65,536.
            quality: 0 to quality_levels − 1.
            effort: 0 to 9, or a refiner of one's own settings; None: the codec's `refiner`.

        Returns:
            A `.glc` file.

        Raises:
            ValueError: not a picture, no such quality or effort.
            NotEnoughMemory: it does not fit in `memory`, not even in stripes; nothing was done.
            BackboneError: what judges the effort lacks its weights.
        """
        return self.compress_with_report(picture, quality, effort).data

    @torch.inference_mode()
    def compress_latent(self, latent: Tensor, size: tuple[int, int], quality: int) -> bytes:
        """A `.glc` file of a latent that was computed elsewhere, as by an exported encoder.

        Args:
            latent: (1, N, h, w) of the picture, its sides filled up to multiples of `multiple`.
            size: height and width of the picture.
            quality: 0 to quality_levels − 1.

        Raises:
            ValueError: no such quality, not the latent of a picture of this size, or not of finite numbers.
        """
        level = int(self.quality_indices(quality, 1)[0])
        expected = (1, self.latent_channels, *self.latent_size(*size))
        if latent.shape != expected or not 0 < min(size) <= max(size) <= MAX_SIDE:
            raise ValueError(
                f"the latent of a picture of {size[0]} rows and {size[1]} columns is {expected}, not "
                f"{tuple(latent.shape)}; a .glc picture has sides of 1 to {MAX_SIDE} pixels"
            )
        if not bool(latent.isfinite().all()):
            raise ValueError("the latent has infinities or NaN: what computed it failed")
        return self._pack(latent.to(self.device, torch.float32), size, level).data

    @torch.inference_mode()
    def decompress_symbols(
        self, data: bytes, max_pixels: int | None = MAX_PIXELS, name: str = "The file"
    ) -> tuple[ImageHeader, Tensor]:
        """Header and decoded y of a `.glc` file, (1, C, h, w): the same bits on every machine.

        Where indices alone are coded, their code vectors (1, N, h, w).
        """
        header, decoded, _ = self._read(data, max_pixels, name)
        return header, decoded

    @torch.inference_mode()
    def decompress_latent(
        self, data: bytes, max_pixels: int | None = MAX_PIXELS, name: str = "The file"
    ) -> tuple[ImageHeader, Tensor]:
        """Header and decoded latent (1, N, h, w) of a `.glc` file, in ordinary float32."""
        header, decoded, coder = self._read(data, max_pixels, name)
        return header, coder.shown_latent(decoded, header.quality)

    def _read(
        self, data: bytes, max_pixels: int | None, name: str
    ) -> tuple[ImageHeader, Tensor, ExactLatentCoder | ExactIndexCoder]:
        """As `decompress_symbols`, and what read them: to ask for it again takes another checksum of all weights."""
        header, payload = unpack_image(data, name)
        check_pixels(header, max_pixels, name)
        coder = self.picture_coder()
        self.check_made_for(header, coder.fingerprint, name)
        height, width = self.latent_size(header.height, header.width)
        check = ContentCheck(header.width, header.height, header.quality)
        decoded = coder.read_symbols(payload, height, width, self.device, check, adaptive=header.version > 3)
        check_content(header, check.digest(), name)
        return header, decoded, coder

    @torch.inference_mode()
    def decompress(self, data: bytes, max_pixels: int | None = MAX_PIXELS, name: str = "The file") -> np.ndarray:
        """Decodes a `.glc` file to a picture uint8 (H, W, 3).

        Args:
            data: the file.
            max_pixels: a larger picture is refused before anything is allocated for it; None: there is no limit.
            name: begins the messages, the file's path, say.

        Raises:
            FormatError: not such a file, damaged, made with other weights, or too large.
            NotEnoughMemory: as of `compress`.
            ValueError: the weights give pixels that are no numbers.
        """
        header, _ = unpack_image(data, name)
        check_pixels(header, max_pixels, name)
        self.check_memory(self.autoencoder.decoder, header.height, header.width)  # not after minutes of reading
        header, latent = self.decompress_latent(data, max_pixels, name)
        x_hat = self.decode_latent(latent)
        return decoded_picture(x_hat[..., : header.height, : header.width])
