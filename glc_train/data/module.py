"""LightningDataModules: endless, resumable training batches from any source, and fixed validation pictures."""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.fabric.utilities.data import suggested_max_num_workers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from glc_train.data.crops import stacked
from glc_train.data.file_passes import first_readable, shared_flags
from glc_train.data.packaged import packaged_pictures
from glc_train.data.source import CropSource, SourceFactory, check_ranks, follow, name_of
from glc_train.media.pictures import PathLike, PictureError, find_pictures, read_picture
from glc_train.pixels import to_signed

logger = logging.getLogger(__name__)

_MOST_WORKERS = 8  # of a process
VAL_MULTIPLE = 64  # what the networks' downsampling asks for


class ValPicture(NamedTuple):
    """One validation picture: x float32 (1, 3, H, W) in [-1, 1], H and W multiples of 64; and its file's name."""

    x: Tensor
    name: str


class CropBatches(IterableDataset[Tensor]):
    """Endless batches cut from one stream of samples, without gaps or repeats over ranks and workers.

    With B = batch_size and R = world_size, batch b of rank r holds the samples start + (b·R + r)·B and the B - 1 after
    it: R ranks of B see in one step what one rank of R·B sees.
    """

    def __init__(self, source: CropSource, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """Batches of `batch_size` samples for process `rank` of `world_size`."""
        self.source = source
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start_sample = 0

    def batch(self, number: int) -> Tensor:
        """Return batch `number` >= 0 counted from the start: uint8 (B, 3, h, w) or (B, T, 3, h, w)."""
        first = self.start_sample + (number * self.world_size + self.rank) * self.batch_size
        return self._samples(first)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield this worker's batches; the DataLoader takes the workers in turn, which restores the order."""
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        # The start may move on while this runs (see PictureDataModule); this iterator keeps its own.
        start = self.start_sample + (number * self.world_size + self.rank) * self.batch_size
        stride = workers * self.world_size * self.batch_size
        follow(self.source, _Upcoming(start, stride, self.batch_size))
        try:
            yield from map(self._samples, itertools.count(start, stride))
        finally:
            follow(self.source, ())

    def _samples(self, first: int) -> Tensor:
        return stacked(map(self.source.sample, range(first, first + self.batch_size)), self.batch_size)


@dataclass(frozen=True)
class _Upcoming:
    """The samples of batches that start every `stride` samples; iterable any number of times."""

    start: int
    stride: int
    batch_size: int

    def __iter__(self) -> Iterator[int]:
        for first in itertools.count(self.start, self.stride):
            yield from range(first, first + self.batch_size)


class ValPictures(Dataset[ValPicture]):
    """Whole pictures, centre-cropped to multiples of 64 and at most `max_side`."""

    def __init__(self, paths: Sequence[Path], max_side: int) -> None:
        """Hold the files; they are read when asked for."""
        self.paths = list(paths)
        self.max_side = max_side

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def __getitem__(self, index: int) -> ValPicture:
        """Return picture `index`. Raises: PictureError if it is unreadable or smaller than 64 pixels a side."""
        return self.read(self.paths[index])

    def read(self, path: Path) -> ValPicture:
        """Return the picture of a file. Raises: as above."""
        picture = read_picture(path)
        rows, columns = val_window(picture.shape[0], picture.shape[1], self.max_side)
        crop = picture[rows, columns]
        if not crop.size:
            raise PictureError(f"{path}: under {VAL_MULTIPLE} pixels a side; remove it from the validation pictures.")
        return ValPicture(to_signed(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]).contiguous(), path.name)


def val_window(height: int, width: int, max_side: int) -> tuple[slice, slice]:
    """Rows and columns in the middle, as many as are multiples of 64 and at most `max_side`; maybe none."""
    kept = [min(side, max_side) // VAL_MULTIPLE * VAL_MULTIPLE for side in (height, width)]
    first = [(side - keep) // 2 for side, keep in zip((height, width), kept, strict=True)]
    return slice(first[0], first[0] + kept[0]), slice(first[1], first[1] + kept[1])


class StreamDataModule(lightning.LightningDataModule):
    """Training samples from any source, validation on a fixed set; a subclass says which.

    Training has no epochs: the loader never ends, and the position in the stream of samples is the data module's only
    state. It moves on with each training batch that the Trainer takes and is saved in the checkpoint, so a resumed run
    gets the batch that the uninterrupted run would have got, also if batch size, workers or ranks have changed.
    """

    def __init__(self, batch_size: int, num_workers: int | None, prefetch: int, seed: int) -> None:
        """Keep the settings; files are looked for in `setup`.

        batch_size: samples a rank and step.
        num_workers: loader processes, each with its own cache; 0 loads in the training process; `None`: 0 on a CPU,
            on a GPU as many as a process has cores, at most 8.
        prefetch: batches that each loader process has ready.
        Raises: ValueError for numbers out of range.
        """
        super().__init__()
        if min(batch_size, prefetch) < 1 or (num_workers is not None and num_workers < 0):
            raise ValueError(
                "batch_size and prefetch must be positive and num_workers at least 0; "
                f"got {batch_size}, {prefetch} and {num_workers}."
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.prefetch = prefetch
        self.seed = seed
        self._next_sample = 0
        self._batches: CropBatches | None = None
        self._val_set: Dataset[Any] | None = None

    @property
    def source(self) -> CropSource | None:
        """The source of training samples, once it is set up."""
        return None if self._batches is None else self._batches.source

    def train_source(self) -> CropSource:
        """Build the source of training samples."""
        raise NotImplementedError

    def val_set(self) -> Dataset[Any]:
        """Find the validation items, and try to read them."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Find and try the files, all for validation and the first for training: bad input fails before the first step.

        Raises: PictureError or ClipError, naming the folder or file.
        """
        if self._val_set is None:
            self._val_set = self.val_set()
        if self._batches is None and stage in (None, "fit"):
            source = self.train_source()
            source.sample(0)
            self._batches = CropBatches(source, self.batch_size)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Endless batches, uint8 (B, 3, h, w), of clips (B, T, 3, h, w), from the current position on.

        The device makes them float32 in [-1, 1], after a copy of a fourth of the bytes: `on_after_batch_transfer`.
        """
        self.setup("fit")
        assert self._batches is not None
        self._batches.rank, self._batches.world_size = self._rank_and_world_size()
        self._batches.start_sample = self._next_sample
        check_ranks(self._batches.source, self._batches.world_size)
        on_gpu, workers = False, 0
        if self.trainer is not None and self.trainer.strategy.root_device.type == "cuda":
            on_gpu, workers = True, min(_MOST_WORKERS, suggested_max_num_workers(self.trainer.num_devices))
        workers = workers if self.num_workers is None else self.num_workers
        ending = shared_flags(1)
        Finalize(None, ending.fill_, args=(True,), exitpriority=1)  # before multiprocessing ends its children
        # the one iterator lasts as long as the run; workers that outlived it would not see where the next one starts
        return DataLoader(
            self._batches,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self.prefetch if workers else None,
            pin_memory=on_gpu,
            worker_init_fn=partial(_leave_signals_to_parent, ending),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation items one at a time, always the same in the same order."""
        self.setup("validate")
        assert self._val_set is not None
        return DataLoader(self._val_set, batch_size=None, num_workers=0)

    def set_start(self, batch_index: int) -> None:
        """Make loaders and iterators created from now on begin with training batch `batch_index` >= 0."""
        self._move_to(batch_index * self.batch_size * self._rank_and_world_size()[1])

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make bytes float32 in [-1, 1], and count the training batch that the Trainer has just taken.

        A loader's own count runs ahead: it prefetches.
        """
        if self.trainer is not None and self.trainer.training:
            self._move_to(self._next_sample + self.batch_size * self.trainer.world_size)
        if not isinstance(batch, Tensor) or batch.dtype != torch.uint8:
            return batch
        signed = to_signed(batch)
        return signed if self.trainer is None else self.trainer.precision_plugin.convert_input(signed)

    def last_batch_names(self) -> list[str]:
        """What this rank's last training batch was cut from, for messages."""
        assert self._batches is not None
        rank, world_size = self._rank_and_world_size()
        first = self._next_sample - (world_size - rank) * self.batch_size
        return [name_of(self._batches.source, first + i) for i in range(self.batch_size)]

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream of samples, over all ranks."""
        return {"next_sample": self._next_sample}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved position."""
        self._move_to(int(state_dict["next_sample"]))

    def _move_to(self, sample: int) -> None:
        self._next_sample = sample
        if self._batches is not None:  # seen by the next iterator, should the Trainer start a new epoch
            self._batches.start_sample = sample

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class PictureDataModule(StreamDataModule):
    """Training crops from any source, validation on fixed pictures."""

    def __init__(
        self,
        train: SourceFactory,
        crop_size: int,
        batch_size: int,
        val: PathLike | Sequence[PathLike] | None = None,
        val_pictures: int = 8,
        val_max_side: int = 512,
        num_workers: int | None = None,
        prefetch: int = 2,
        seed: int = 0,
    ) -> None:
        """Keep the settings; files are looked for in `setup`.

        train: called with `crop_size` and `seed`, returns a `CropSource`.
        crop_size: side of the training crops in pixels. batch_size: crops a rank and step.
        val: a folder, or a list of folders and files; None takes the packaged test photographs.
        val_pictures: at most this many, the first by name of those that can be read. val_max_side: pixels, at least 64.
        num_workers: loader processes, each with its own cache; 0 loads in the training process; `None`: 0 on a CPU,
            on a GPU as many as a process has cores, at most 8.
        prefetch: batches that each loader process has ready.
        Raises: ValueError for numbers out of range.
        """
        super().__init__(batch_size, num_workers, prefetch, seed)
        if crop_size < 1 or val_pictures < 1:
            raise ValueError(f"crop_size and val_pictures must be positive; got {crop_size} and {val_pictures}.")
        check_val_max_side(val_max_side)
        self.train = train
        self.val = val
        self.crop_size = crop_size
        self.val_pictures = val_pictures
        self.val_max_side = val_max_side

    def train_source(self) -> CropSource:
        """Build the source of training crops."""
        return self.train(crop_size=self.crop_size, seed=self.seed)

    def val_set(self) -> ValPictures:
        """Find the validation pictures; an item is a `ValPicture`."""
        found = ValPictures(_val_paths(self.val), self.val_max_side)
        readable = first_readable(found.paths, self.val_pictures, found.read, PictureError, logger)
        return ValPictures(readable, self.val_max_side)


def _leave_signals_to_parent(ending: Tensor, worker: int) -> None:
    """Loader processes go on while the training process, which gets the same signals, ends its step and saves.

    When that process is `ending`, Python sends them SIGTERM and waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ending[0] else None)


def check_val_max_side(val_max_side: int) -> None:
    """Raise ValueError if no multiple of 64 fits."""
    if val_max_side < VAL_MULTIPLE:
        raise ValueError(f"val_max_side must be at least {VAL_MULTIPLE}; got {val_max_side}.")


def _val_paths(val: PathLike | Sequence[PathLike] | None) -> list[Path]:
    if val is None:
        return packaged_pictures("test")
    places = [Path(val)] if isinstance(val, (str, Path)) else [Path(p) for p in val]  # type: ignore[union-attr]
    if not places:
        raise PictureError("The list of validation pictures is empty; give a folder or files, or leave `val` out.")
    return [path for place in places for path in ([place] if place.is_file() else find_pictures(place))]
