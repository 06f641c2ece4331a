"""Fits the categorical prior of the hyper latent after training."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from glc_train.codecs import ImageCodec, VideoCodec
from glc_train.weights import Codec


@torch.no_grad()
def fit_z_prior(codec: Codec, data: Any, batches: int) -> None:
    """Counts z indices over training crops or clips, every quality equally, and makes them the prior of z.

    One is added to every count, so that no index is impossible. A factorised prior, which is trained, stays as it is;
    so does the prior of the image codec in a video codec.

    Args:
        codec: changed in place: `transform.z_counts`.
        data: data module with a `train_dataloader`.
        batches: training batches to look at.
    """
    counts = codec.transform.z_counts
    if not len(counts):
        return
    fitted = torch.ones_like(counts)
    for number, batch in enumerate(islice(iter(data.train_dataloader()), batches)):
        x = batch.to(counts.device)
        found = _of_clips(codec, x, number) if isinstance(codec, VideoCodec) else _of_pictures(codec, x)
        for indices in found:
            fitted += torch.bincount(indices.flatten(), minlength=len(fitted))
    counts.copy_(fitted)


def _of_pictures(codec: ImageCodec, x: Tensor) -> Iterator[Tensor]:
    """Indices of crops x (B, 3, H, W) at every quality."""
    latent = codec.encode_latent(x)
    for q in range(codec.quality_levels):
        yield codec.transform.hyper_indices(latent, torch.full((len(x),), q, device=x.device))


def _of_clips(codec: VideoCodec, clips: Tensor, number: int) -> Iterator[Tensor]:
    """Indices of the conditional frames of clips (B, T, 3, H, W); qualities take turns over the batches."""
    quality = (number * len(clips) + torch.arange(len(clips), device=clips.device)) % codec.quality_levels
    yield from (frame.z_indices for frame in codec(clips, quality) if not frame.intra)
