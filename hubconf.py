"""Codecs for `torch.hub.load("OWNER/REPOSITORY", "glc_image")`, or of a clone with source="local"."""

from glc_train import load_codec as _load_codec
from glc_train import load_video as _load_video
from glc_train.codecs import ImageCodec, VideoCodec

dependencies = ["torch", "numpy", "constriction", "safetensors", "einops", "PIL", "av", "simplejpeg"]


def glc_image(weights: str | None = None, device: str = "cpu", dtype: str = "auto") -> ImageCodec:
    """The image codec of `weights`: a file, a name, hf://OWNER/NAME; by default the one that comes with the code."""
    return _load_codec(weights, device, dtype)


def glc_video(weights: str | None = None, device: str = "cpu", dtype: str = "auto") -> VideoCodec:
    """The video codec of `weights`; by default the one that comes with the code."""
    return _load_video(weights, device, dtype)
