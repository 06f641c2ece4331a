"""Crops and clips a second from folders and shards, against a Pillow folder data set and a stock webdataset pipeline.

``python -m benchmarks.data`` reads files that it makes in a temporary folder; see README.md in this folder.
"""

import argparse
import itertools
import logging
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor

from benchmarks import step
from benchmarks.data_plain import PlainCut, folder_loader, webdataset_loader
from benchmarks.data_sets import Files, make_clips, make_large_index, make_pictures
from benchmarks.measures import apart, own_megabytes
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.data import (
    ClipDataModule,
    FolderClips,
    FolderCrops,
    PictureDataModule,
    ShardClips,
    ShardCrops,
    StreamDataModule,
)
from glc_train.data.crops import RandomCrops

CROP, FRAMES = 256, 7
CASES = ("crops", "scaled", "clips")
REFERENCES = ("pillow", "webdataset")
Loader = Callable[[int], Iterable[Tensor]]  # of a number of workers


def loaders(case: str, files: Files, batch_size: int) -> dict[str, Loader]:
    """Ours and the references; `scaled` is what the configurations have: every other crop is first reduced."""
    probability, frames = (0.5 if case == "scaled" else 0.0), (FRAMES if case == "clips" else None)
    cut = PlainCut(RandomCrops(CROP, scale_probability=probability), frames)
    in_folder, in_shards = (FolderClips, ShardClips) if frames else (FolderCrops, ShardCrops)
    sources = {
        "folder": partial(in_folder, files.folder, scale_probability=probability, cache_mb=0),  # too many for memory
        "shards": partial(in_shards, str(files.shards), scale_probability=probability),
    }
    if files.encoded != files.shards:
        sources["encoded"] = partial(in_shards, str(files.encoded), scale_probability=probability)
    return {
        **{name: partial(_ours, source, frames, batch_size) for name, source in sources.items()},
        "pillow": partial(folder_loader, files.folder, cut, batch_size),
        "webdataset": partial(webdataset_loader, files.shards, cut, batch_size),
    }


def _ours(source: Any, frames: int | None, batch_size: int, workers: int) -> Iterable[Tensor]:
    module: StreamDataModule = (
        PictureDataModule(source, CROP, batch_size, num_workers=workers)
        if frames is None
        else ClipDataModule(source, CROP, batch_size, frames, num_workers=workers)
    )
    return (module.on_after_batch_transfer(batch, 0) for batch in module.train_dataloader())


def rates(loader: Loader, workers: int, batches: int) -> dict[str, float]:
    """Samples a second, of the wall clock and of the processor time of all processes."""
    iterator = iter(loader(workers))
    size = 0
    for _ in range(workers + 1):  # until all processes are at work
        size = len(next(iterator))
    wall, processor = time.perf_counter(), _processor_seconds()
    for batch in itertools.islice(iterator, batches):
        assert batch.dtype == torch.float32
    wall, processor = time.perf_counter() - wall, _processor_seconds() - processor
    return {"wall": size * batches / wall, "processor": size * batches / processor}


def _processor_seconds() -> float:
    """Of this process and of those that it started and that still run."""
    ticks = 0
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure(case: str, files: Files, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one case, by number of workers; all contenders alternate."""
    contenders = loaders(case, files, options.batch_size)
    result = {}
    for workers in options.workers:
        found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": []} for name in contenders}
        for number in range(options.rounds):
            names = list(contenders)
            for name in names if number % 2 == 0 else reversed(names):
                for clock, rate in rates(contenders[name], workers, options.batches).items():
                    found[name][clock].append(rate)
        result[f"{workers}_workers"] = {
            "per_second": {name: spread(values["wall"]) for name, values in found.items()},
            "per_processor_second": {name: spread(values["processor"]) for name, values in found.items()},
            "ratio": {
                f"{ours}/{plain}": {
                    clock: spread([o / p for o, p in zip(found[ours][clock], found[plain][clock], strict=True)])
                    for clock in ("wall", "processor")
                }
                for ours, plain in itertools.product(contenders, REFERENCES)
                if ours not in REFERENCES
            },
        }
    return result


def waiting(files: Files, options: argparse.Namespace) -> dict[str, Any]:
    """Share of the time of training steps, small model, in which the step waits for its batch."""
    step_options = step.parse([])
    config = step.configuration("autoencoder", step_options)
    section = config.stages.autoencoder
    shares = {}
    for workers in (0, *options.workers):
        # on the CPU: the same cores load and train
        module = PictureDataModule(
            partial(ShardCrops, str(files.encoded)), section.crop_size, section.batch_size, num_workers=workers
        )
        profiler = SimpleProfiler()
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, limit_train_batches=options.training_steps + 2, profiler=profiler,
            max_epochs=1,
            limit_val_batches=0, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(step.build(config, "autoencoder", plain=False), module)
        waits, works = (
            sum(profiler.recorded_durations[name][2:])
            for name in ("[_TrainingEpochLoop].train_dataloader_next", "run_training_batch")
        )
        shares[f"{workers}_workers"] = {
            "share": waits / (waits + works),
            "seconds_a_step": works / options.training_steps,
        }
    return shares


def large(index: Path, batch_size: int) -> dict[str, Any]:
    """Start, memory and random access with an index of many samples, in a process that has done nothing else."""
    multiprocessing.set_start_method("fork", force=True)  # as loaders of a training are started on Linux
    source = partial(ShardCrops, str(index))
    start = time.perf_counter()
    module = PictureDataModule(source, CROP, batch_size, num_workers=1)
    iterator = iter(module.train_dataloader())
    for _ in range(2):
        next(iterator)
    started = time.perf_counter() - start
    for _ in range(20):
        next(iterator)
    (worker,) = multiprocessing.active_children()
    memory = own_megabytes(worker)
    assert isinstance(module.source, ShardCrops)
    samples = module.source.samples_per_pass
    places = np.random.default_rng(0).integers(0, 100 * samples, 100)
    seeks = []
    for place in places.tolist():
        begin = time.perf_counter()
        module.source.sample(place)
        seeks.append(1000 * (time.perf_counter() - begin))
    return {
        "samples": samples,
        "index_mb": index.stat().st_size // 10**6,
        "seconds_to_the_first_batches": started,
        "worker_mb": memory,
        "milliseconds_to_a_crop_anywhere": spread(seeks),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="loader processes (default 1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="of all contenders (default 5)")
    parser.add_argument("--batches", type=int, default=40, help="measured in a round (default 40)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=400, help="JPEGs to make (default 400)")
    parser.add_argument("--clips", type=int, default=24, help="clips to make (default 24)")
    parser.add_argument("--training-steps", type=int, default=10, help="for the share of waiting; 0: not measured")
    parser.add_argument("--shards", type=int, default=10_000, help="of 1,000 samples, in the large index; 0: none")
    machine_options(parser)
    options = parser.parse_args(arguments)
    if min(options.workers) < 1 or options.device != "cpu":
        parser.error("--workers must be 1 or more, and --device cpu")
    return checked(parser, options, rounds=1, batches=1, batch_size=1, pictures=4, clips=4, training_steps=0, shards=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all cases, prints the ratios and writes the record."""
    options = parse(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    torch.set_num_threads(options.threads)
    load = machine_load()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="glc_train-") as folder:
        pictures = make_pictures(Path(folder), options.pictures)
        for case in options.cases:
            files = make_clips(Path(folder), options.clips) if case == "clips" else pictures
            results[case] = measure(case, files, options)
            _tell(case, results[case])
        if options.training_steps:
            results["waiting"] = waiting(pictures, options)
            print("waiting", {key: f"{value['share']:.1%}" for key, value in results["waiting"].items()}, flush=True)
        if options.shards:
            index = make_large_index(Path(folder), pictures.encoded, options.shards, 1000)
            results["large"] = apart(large, index, options.batch_size)
            print("large", results["large"], flush=True)
    write_record(options, "data", load, results)


def _tell(case: str, result: dict[str, Any]) -> None:
    for workers, figures in result.items():
        rate = {name: f"{values['median']:.0f}" for name, values in figures["per_second"].items()}
        core = {name: f"{values['median']:.0f}" for name, values in figures["per_processor_second"].items()}
        print(f"{case:7} {workers}: a second {rate}, a second of a core {core}")
        for pair, ratio in figures["ratio"].items():
            told = [f"{ratio[c]['median']:.2f} ({ratio[c]['min']:.2f} to {ratio[c]['max']:.2f})" for c in ratio]
            print(f"        {pair:20} {told[0]}, processor time {told[1]}", flush=True)


if __name__ == "__main__":
    main()
