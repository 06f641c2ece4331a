"""The stations assembled: picture ⇄ file."""

from glc_train.codecs.image import (
    CompressResult,
    ImageCodec,
    ImageOutput,
    pad_to_multiple,
    picture_to_tensor,
    tensor_to_picture,
)

__all__ = ["CompressResult", "ImageCodec", "ImageOutput", "pad_to_multiple", "picture_to_tensor", "tensor_to_picture"]
