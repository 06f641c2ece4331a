"""Time of a training step in this project's formulation against the plain one, alternating in one run.

``python -m benchmarks.step`` on a CPU, ``python -m benchmarks.step --device cuda --experiment glc_image --model base
--compile`` on a GPU. The real stages run under the real Trainer; see README.md in this folder.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import flop_registry

from benchmarks.plain import with_plain_quantisers
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.training.compilation import compile_blocks
from glc_train.training.section import make_stage
from glc_train.training.stage import Stage
from glc_train.training.trainer_precision import trainer_precision
from glc_train.weights import build_codec

ROOT = Path(__file__).resolve().parents[1]
CASES = ("autoencoder", "autoencoder+gan", "transform", "joint", "joint+gan")
BAR = 1.5  # the ratio that this project asks of itself on a CPU
# Dense bfloat16 TFLOP/s of the makers' data sheets, by a part of the device's name.
PEAK_TFLOPS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0}


def configuration(case: str, options: argparse.Namespace) -> DictConfig:
    """The composed configuration of a case; its stage never ends by itself."""
    stage, _, gan = case.partition("+")
    per_sample = str(options.gan_weight == "sample").lower()
    adversary = f"{{_target_: glc_train.losses.Adversary, start: 0, per_sample: {per_sample}}}" if gan else "null"
    overrides = [f"experiment={options.experiment}", f"model={options.model}", "data=rendered"]
    overrides += [f"stages.{stage}.steps=1000000", f"stages.{stage}.minutes=null"]
    if stage == "autoencoder":
        overrides.append(f"++stages.{stage}.free_steps=0")  # the usual step, not the first ones
    if stage != "transform":
        # Null first: Hydra would merge it with the discriminator that the experiment may have.
        overrides += [f"++stages.{stage}.adversary={value}" for value in ("null", adversary)]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*overrides, *options.set])


def build(config: DictConfig, case: str, plain: bool) -> Stage:
    """The stage of a case, ready to train."""
    torch.manual_seed(0)
    section = config.stages[case.partition("+")[0]]
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    codec = build_codec(model)
    codec.to(memory_format=torch.contiguous_format if plain else torch.channels_last)
    if plain:
        with_plain_quantisers(codec)
    target = section._target_
    if plain:
        target = f"benchmarks.plain.Plain{target.rpartition('.')[2]}"
    stage = make_stage(OmegaConf.create({**section, "_target_": target}), codec, model)
    if plain:
        for network in stage.perceptual_networks:
            network.to(memory_format=torch.contiguous_format)
    stage.prepare()
    return stage


class FlopCounter(TorchDispatchMode):
    """Floating-point operations of everything inside, by PyTorch's formulas.

    `FlopCounterMode` also follows modules, and its hooks do not bear `torch.autograd.grad` with respect to a picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


class _Timer(Callback):
    """Seconds of every batch, from before the step to after it: wall clock, and processor time of all threads."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def _now(self, device: torch.device) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._start = self._now(pl_module.device), time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.wall.append(self._now(pl_module.device) - self._start[0])
        self.processor.append(time.process_time() - self._start[1])


def run_block(stage: Stage, x: Tensor, steps: int, precision: str, device: str) -> _Timer:
    """Trains `steps` steps on crops x (B, 3, H, W) and times them."""
    timer = _Timer()
    trainer = lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu", devices=1, precision=precision,  # type: ignore[arg-type]
        callbacks=[timer], max_epochs=1, limit_val_batches=0, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(stage, DataLoader([x] * steps, batch_size=None))  # type: ignore[arg-type]
    return timer


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Alternates blocks of steps of both formulations; figures of one case."""
    config = configuration(case, options)
    section = config.stages[case.partition("+")[0]]
    size = (section.batch_size, 3, section.crop_size, section.crop_size)
    x = torch.rand(size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    stages = {"ours": build(config, case, plain=False)}
    stages["plain"] = build(config, case, plain=True)
    auto = OmegaConf.create({"accelerator": options.device, "precision": "auto"})
    precision = {"ours": trainer_precision(auto), "plain": "32-true"}
    with FlopCounter() as counter:
        run_block(stages["ours"], x, 1, precision["ours"], options.device)
    if options.compile:
        compile_blocks(stages["ours"])
    for name, stage in stages.items():
        run_block(stage, x, 2, precision[name], options.device)  # the first steps set up the codebook and memory
    rounds: dict[str, list[float]] = {"ours": [], "plain": []}
    processor: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(options.rounds):
        for name in ("ours", "plain") if number % 2 == 0 else ("plain", "ours"):
            # The first step of a block makes optimiser states anew.
            timer = run_block(stages[name], x, options.steps + 1, precision[name], options.device)
            rounds[name].append(statistics.median(timer.wall[1:]))
            processor[name].append(statistics.median(timer.processor[1:]))
    ours = statistics.median(rounds["ours"])
    teraflop = counter.total / 1e12
    peak = options.peak_tflops or known_peak(options.device)
    return {
        "batch_size": size[0],
        "crop_size": size[-1],
        "ratio": _ratio(rounds),
        # Says the same on a busy machine too; nothing about a GPU's work.
        "processor_time_ratio": _ratio(processor) if options.device == "cpu" else None,
        "seconds": {name: spread(values) for name, values in rounds.items()},
        "crops_per_second": {name: size[0] / statistics.median(values) for name, values in rounds.items()},
        "teraflop_per_step": teraflop,
        "teraflop_per_second": teraflop / ours,
        "share_of_peak": teraflop / ours / peak if peak else None,
    }


def _ratio(rounds: dict[str, list[float]]) -> dict[str, float]:
    return spread([p / o for o, p in zip(rounds["ours"], rounds["plain"], strict=True)])


def known_peak(device: str) -> float | None:
    """Dense bfloat16 TFLOP/s of the GPU, if its name is known."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", default="small", help="of conf/model (default small)")
    parser.add_argument(
        "--experiment", default="glc_image_small_cpu", help="of conf/experiment: crops, batches, losses"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="pairs of blocks (default 5)")
    parser.add_argument("--steps", type=int, default=3, help="measured steps in a block (default 3)")
    parser.add_argument("--gan-weight", choices=("sample", "batch"), default="sample", help="adaptive weights per")
    parser.add_argument("--compile", action="store_true", help="torch.compile our formulation")
    parser.add_argument("--peak-tflops", type=float, help="of the device, for the share of its peak")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further configuration overrides")
    machine_options(parser)
    options = parser.parse_args(arguments)
    return checked(parser, options, rounds=1, steps=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all cases, prints a line for each and writes the record."""
    options = parse(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    torch.set_num_threads(options.threads)
    load = machine_load()
    results = {}
    for case in options.cases:
        results[case] = result = measure(case, options)
        ratio, share = result["ratio"], result["share_of_peak"]
        processor = result["processor_time_ratio"]
        print(
            f"{case:16} {ratio['median']:.2f}x faster than plain ({ratio['min']:.2f} to {ratio['max']:.2f}), "
            + (f"processor time {processor['median']:.2f}x, " if processor else "")
            + f"{result['seconds']['ours']['median']:.3f} s a step, {result['crops_per_second']['ours']:.1f} crops/s, "
            f"{result['teraflop_per_second']:.2f} TFLOP/s" + (f" ({share:.1%} of peak)" if share else ""),
            flush=True,
        )
    smallest = min(result["ratio"]["median"] for result in results.values())
    print(f"smallest ratio {smallest:.2f}, asked for on a CPU: {BAR}; load before the start {load}")
    write_record(options, f"step_{options.model}", load, results)


if __name__ == "__main__":
    main()
