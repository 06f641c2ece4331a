"""Crops a second from folders and shards, ours against a PIL folder and a stock WebDataset pipeline, in one run.

python -m benchmarks.data
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image
from skimage import data as photographs
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from glc_train.data import CropBatches, FolderCrops, PictureEncoder, ShardCrops, write_shards
from glc_train.pixels import to_signed

SIDE, CROP, BATCH = 512, 256, 16
TRANSFORM = transforms.Compose([transforms.RandomCrop(CROP), transforms.RandomHorizontalFlip(), transforms.ToTensor()])


class PilFolder(Dataset[Tensor]):
    """The usual folder data set."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return TRANSFORM(Image.open(self.paths[index]).convert("RGB"))


def write_pictures(folder: Path, count: int) -> None:
    """JPEGs of 512 pixels a side, quality 95: pieces of photographs, enlarged, with a little noise."""
    random = np.random.default_rng(0)
    sources = [photographs.astronaut(), photographs.coffee(), photographs.chelsea(), photographs.rocket()]
    for number in range(count):
        source = sources[number % len(sources)]
        top, left = (int(random.integers(side - 256)) for side in source.shape[:2])
        picture = Image.fromarray(source[top : top + 256, left : left + 256]).resize((SIDE, SIDE))
        noisy = np.clip(np.asarray(picture) + random.normal(0, 4, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:05}.jpg", quality=95)


def loaders(folder: Path, workers: int) -> dict[str, Callable[[], Iterable[Tensor]]]:
    """Endless or long loaders of batches, by name."""
    shards = sorted(str(path) for path in (folder.parent / "shards").glob("*.tar"))

    def ours(source: Any) -> Iterable[Tensor]:
        return DataLoader(CropBatches(source, BATCH), batch_size=None, num_workers=workers)

    def stock() -> Iterable[Tensor]:
        pipeline = (
            webdataset.WebDataset(shards, resampled=True, shardshuffle=False).shuffle(200).decode("pil").to_tuple("jpg")
        )
        return webdataset.WebLoader(pipeline.map_tuple(TRANSFORM).batched(BATCH), batch_size=None, num_workers=workers)

    return {
        "PIL folder": lambda: DataLoader(PilFolder(folder), BATCH, shuffle=True, num_workers=workers),
        "WebDataset": stock,
        "FolderCrops": lambda: ours(FolderCrops(folder, CROP, seed=0, scale_probability=0, cache_mb=0)),
        "ShardCrops": lambda: ours(ShardCrops(str(folder.parent / "shards"), CROP, seed=0, scale_probability=0)),
    }


def rate(batches: Iterable[Tensor], count: int, clock: Callable[[], float]) -> float:
    """Crops a second of `clock`, once the first batch is there; bytes are made floats as the device would."""
    iterator = iter(batches)
    next(iterator)
    start = clock()
    for batch in islice(iterator, count):
        crops = batch[0] if isinstance(batch, list | tuple) else batch
        assert (to_signed(crops) if crops.dtype == torch.uint8 else crops).shape[1:] == (3, CROP, CROP)
    return count * BATCH / (clock() - start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table: the median of the rounds, and its ratio to both references."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="0: by processor time, one core")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        write_pictures(folder, args.pictures)
        write_shards(folder, folder.parent / "shards", PictureEncoder(), samples=50)
        count = min(20, args.pictures // BATCH - 2)
        for workers in args.workers:
            clock = time.perf_counter if workers else time.process_time
            made = loaders(folder, workers)
            rounds = [{name: rate(make(), count, clock) for name, make in made.items()} for _ in range(args.rounds)]
            print(f"{workers} workers: crops/s, × PIL folder, × WebDataset")
            for name in made:
                ratios = [
                    float(np.median([r[name] / r[other] for r in rounds])) for other in ("PIL folder", "WebDataset")
                ]
                print(f"  {name:<12} {np.median([r[name] for r in rounds]):7.1f}  {ratios[0]:5.2f}  {ratios[1]:5.2f}")


if __name__ == "__main__":
    main()
