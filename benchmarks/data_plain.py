"""The references of `benchmarks.data`: what a user writes with Pillow, PyAV, `DataLoader` and stock webdataset.

The crops are drawn as ours are. What they yield is what ours becomes on its way to the device: float32 in [-1, 1].
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import webdataset
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms.functional import normalize, to_tensor

from glc_train.data.crops import RandomCrops

ENDLESS = 10**6  # batches


class PlainCut:
    """A random crop of a picture file, or of consecutive frames of a video file."""

    def __init__(self, crops: RandomCrops, frames: int | None) -> None:
        """frames: of a clip; None: pictures."""
        self.crops = crops
        self.frames = frames

    def __call__(self, file: Any) -> Tensor:
        """float32 (3, h, w), or (frames, 3, h, w), in [-1, 1] of a file, opened or its name."""
        random = np.random.default_rng(int(torch.randint(2**62, ())))
        images = [Image.open(file).convert("RGB")] if self.frames is None else self._decoded(file, random)
        crop = self.crops.draw(images[0].height, images[0].width, random)
        cut = []
        for image in images:
            image = image.crop((crop.left, crop.top, crop.left + crop.window, crop.top + crop.window))
            if crop.window != crop.size:
                image = image.resize((crop.size, crop.size), Image.Resampling.BICUBIC)
            image = ImageOps.mirror(image) if crop.mirrored else image
            cut.append(normalize(to_tensor(image), [0.5] * 3, [0.5] * 3))
        return cut[0] if self.frames is None else torch.stack(cut)

    def _decoded(self, file: Any, random: np.random.Generator) -> list[Image.Image]:
        assert self.frames is not None
        with av.open(file) as container:
            stream = container.streams.video[0]
            first = int(random.random() * (stream.frames - self.frames + 1))
            images = []
            for number, frame in enumerate(container.decode(stream)):
                if number >= first:
                    images.append(frame.to_image())
                if len(images) == self.frames:
                    return images
        raise ValueError(f"{file}: too short")


class _Folder(Dataset[Tensor]):
    def __init__(self, folder: Path, cut: PlainCut) -> None:
        self.paths = sorted(folder.iterdir())
        self.cut = cut

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.cut(str(self.paths[index]))


def folder_loader(folder: Path, cut: PlainCut, batch_size: int, workers: int) -> Iterable[Tensor]:
    """(a): a folder as a `Dataset`, with `DataLoader`."""
    dataset = _Folder(folder, cut)
    sampler = RandomSampler(dataset, replacement=True, num_samples=ENDLESS * batch_size)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers)


class _Bytes:
    """The cut of a sample's only file."""

    def __init__(self, cut: PlainCut) -> None:
        self.cut = cut

    def __call__(self, sample: dict[str, Any]) -> Tensor:
        (data,) = (value for key, value in sample.items() if not key.startswith("__"))
        return self.cut(io.BytesIO(data))


def webdataset_loader(shards: Path, cut: PlainCut, batch_size: int, workers: int) -> Iterable[Tensor]:
    """(b): shards as webdataset's documentation has them read."""
    urls = sorted(map(str, shards.glob("*.tar")))
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).repeat().shuffle(100)
    batches = dataset.map(_Bytes(cut)).batched(batch_size, collation_fn=torch.stack)
    return webdataset.WebLoader(batches, batch_size=None, num_workers=workers)
