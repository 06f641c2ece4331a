"""Fits the categorical prior of the hyper latent after training."""

from itertools import islice
from typing import Any

import torch

from glc_train.codecs import ImageCodec


@torch.no_grad()
def fit_z_prior(codec: ImageCodec, data: Any, batches: int) -> None:
    """Counts z indices over training crops, every quality equally, and makes them the prior of z.

    One is added to every count, so that no index is impossible. A factorised prior, which is trained, stays as it is.

    Args:
        codec: changed in place: `transform.z_counts`.
        data: data module with a `train_dataloader`.
        batches: training batches to look at.
    """
    transform = codec.transform
    if not len(transform.z_counts):
        return
    counts = torch.ones_like(transform.z_counts)
    for batch in islice(iter(data.train_dataloader()), batches):
        latent = codec.encode_latent(batch.to(codec.device))
        for q in range(codec.quality_levels):
            quality = torch.full((len(batch),), q, device=codec.device)
            counts += torch.bincount(transform.hyper_indices(latent, quality).flatten(), minlength=len(counts))
    transform.z_counts.copy_(counts)
