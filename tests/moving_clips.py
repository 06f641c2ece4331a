"""Clips for the tests: smooth random pictures that move, a function of their number alone; nothing to download."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset


class ValClip(NamedTuple):
    x: Tensor
    name: str


def moving_clip(frames: int, side: int, number: int) -> Tensor:
    """(frames, 3, side, side) in [-1, 1]: a picture that moves two pixels a frame to the left and one up."""
    random = torch.Generator().manual_seed(number)
    coarse = torch.rand(1, 3, 6, 6, generator=random) * 2 - 1
    picture = F.interpolate(coarse, size=side + 2 * frames, mode="bilinear", align_corners=True)[0]
    return torch.stack([picture[:, t : t + side, 2 * t : 2 * t + side] for t in range(frames)])


class _Batches(IterableDataset[Tensor]):
    def __init__(self, module: "MovingClips") -> None:
        self.module = module

    def __iter__(self) -> Iterator[Tensor]:
        m, number = self.module, self.module.position
        while True:
            first = 1000 * m.seed + number * m.batch_size
            yield torch.stack([moving_clip(m.frames, m.crop_size, first + i) for i in range(m.batch_size)])
            number += 1


class _Validation(Dataset[ValClip]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> ValClip:
        return ValClip(moving_clip(4, 64, 7)[None], "moving")


class MovingClips(lightning.LightningDataModule):
    """Endless training batches (B, T, 3, h, w) that a resumed run goes on with, and one validation clip."""

    def __init__(self, crop_size: int, batch_size: int, frames: int, seed: int = 0) -> None:
        super().__init__()
        self.crop_size, self.batch_size, self.frames, self.seed = crop_size, batch_size, frames, seed
        self.position = 0

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(_Batches(self), batch_size=None)

    def val_dataloader(self) -> DataLoader[ValClip]:
        return DataLoader(_Validation(), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is not None and self.trainer.training:
            self.position += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position = state_dict["position"]
