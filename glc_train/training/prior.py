"""Fits the categorical prior of the hyper latent after training."""

from itertools import islice
from typing import Any

import torch

from glc_train.codecs import Codec

_FEW = 8  # quality levels, that every batch is coded at all of them


@torch.no_grad()
def fit_z_prior(codec: Codec, data: Any, batches: int) -> None:
    """Counts z indices over training crops or clips, every quality equally, and makes them the prior of z.

    One is added to every count, so that no index is impossible. A factorised prior, which is trained, stays as it is;
    so does the prior of the image codec in a video codec.

    Args:
        codec: changed in place: `transform.z_counts`.
        data: `LightningDataModule`.
        batches: training batches to look at.
    """
    counts, levels = codec.transform.z_counts, codec.quality_levels
    if not len(counts):
        return
    fitted = torch.ones_like(counts)
    for number, batch in enumerate(islice(iter(data.train_dataloader()), batches)):
        x = data.on_after_batch_transfer(batch.to(counts.device), 0)
        in_turn = (number * len(x) + torch.arange(len(x), device=x.device)) % levels
        for quality in range(levels) if levels <= _FEW else [in_turn]:
            fitted += torch.bincount(codec.hyper_indices(x, quality), minlength=len(fitted))
    counts.copy_(fitted)
