"""Generative Latent Coding: images and video below 0.04 bits per pixel, trained, coded to files, and evaluated."""

from glc_train.weights import WeightsError, load_any_codec, load_codec, load_video, save_codec

__version__ = "0.1.0"
__all__ = ["WeightsError", "__version__", "load_any_codec", "load_codec", "load_video", "save_codec"]
