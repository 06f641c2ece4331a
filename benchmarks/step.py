"""Time of a training step in this project's formulation against the plain one, alternating in one run.

``python -m benchmarks.step`` on a CPU; on a GPU ``python -m benchmarks.step --device cuda --compile`` (stage III of the
small model as glc_image_small_gpu trains it). The real stages run under the real Trainer; see README.md in this folder.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
from benchmarks.profiles import HostWaits, Profile
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.training.compilation import compile_blocks
from glc_train.training.section import make_stage
from glc_train.training.stage import Stage
from glc_train.training.trainer_precision import trainer_precision
from glc_train.weights import build_codec

ROOT = Path(__file__).resolve().parents[1]
CASES = ("autoencoder", "autoencoder+gan", "transform", "joint", "joint+gan", "joint+recipe")
# What is measured where nothing is said: the experiment, and its cases.
USUAL = {"cpu": ("glc_image_small_cpu", CASES[:-1]), "cuda": ("glc_image_small_gpu", CASES[-1:])}
BAR = 1.2  # the ratio that this project asks of itself on a CPU without bfloat16
# Dense bfloat16 TFLOP/s of the makers' data sheets, by a part of the device's name.
PEAK_TFLOPS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0}


def configuration(case: str, options: argparse.Namespace) -> DictConfig:
    """The composed configuration of a case; its stage never ends by itself."""
    stage, _, adversary = case.partition("+")
    overrides = [f"experiment={options.experiment}", f"model={options.model}", "data=rendered"]
    overrides += [f"stages.{stage}.steps=1000000", f"stages.{stage}.minutes=null"]
    if stage == "autoencoder":
        overrides.append(f"++stages.{stage}.free_steps=0")  # the usual step, not the first ones
    if adversary == "recipe":
        overrides += [f"++stages.{stage}.adversary.{name}=0" for name in ("start", "warmup")]
    elif stage != "transform":
        per_sample = str(options.gan_weight == "sample").lower()
        value = f"{{_target_: glc_train.losses.Adversary, start: 0, per_sample: {per_sample}}}" if adversary else "null"
        # Null first: Hydra would merge it with the discriminator that the experiment may have.
        overrides += [f"++stages.{stage}.adversary={each}" for each in ("null", value)]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*overrides, *options.set])


def build(config: DictConfig, case: str, plain: bool) -> Stage:
    """The stage of a case, ready to train."""
    torch.manual_seed(0)
    section = config.stages[case.partition("+")[0]]
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    codec = build_codec(model)
    if plain:
        with_plain_quantisers(codec)
    section = _plain_section(section) if plain else section
    stage = make_stage(section, codec, model)
    for network in (stage, *stage.frozen_networks):
        network.to(memory_format=torch.contiguous_format if plain else torch.channels_last)
    stage.prepare()
    return stage


def _plain_section(section: DictConfig) -> DictConfig:
    """The section with the stage and the pixel losses of `plain.py`."""
    section = section.copy()
    for part in (section, section.get("picture")):
        if part is not None:
            part._target_ = f"benchmarks.plain.Plain{part._target_.rpartition('.')[2]}"
    return section


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


def run_block(stage: Stage, x: Tensor, steps: int, precision: str, device: str, *callbacks: Callback) -> _Timer:
    """Trains `steps` steps on crops x (B, 3, H, W) and times them."""
    timer = _Timer()
    trainer = lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu", devices=1, precision=precision,  # type: ignore[arg-type]
        callbacks=[timer, *callbacks], max_epochs=1, limit_val_batches=0, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader: Any = DataLoader([x] * steps, batch_size=None, pin_memory=device == "cuda")  # type: ignore[arg-type]
    trainer.fit(stage, loader)
    return timer


@dataclass
class Formulation:
    """A stage as it is trained, and what its steps took: the median of each block.

    Attributes:
        stage, precision: of the training.
        wall, processor: seconds a step, by the clock and of all threads of the processor.
        peak_mb: largest memory on the GPU.
        start_seconds: of the first steps, compilation included.
    """

    stage: Stage
    precision: str
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peak_mb: int | None = None
    start_seconds: float = 0.0

    def start(self, x: Tensor, device: str) -> None:
        """The first steps, which set up codebook and memory, and compile."""
        before = time.perf_counter()
        run_block(self.stage, x, 2, self.precision, device)
        self.start_seconds = time.perf_counter() - before

    def block(self, x: Tensor, steps: int, device: str) -> None:
        """Times `steps` steps."""
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        # The first step of a block makes optimiser states anew.
        timer = run_block(self.stage, x, steps + 1, self.precision, device)
        self.wall.append(statistics.median(timer.wall[1:]))
        self.processor.append(statistics.median(timer.processor[1:]))
        if device == "cuda":
            self.peak_mb = max(self.peak_mb or 0, torch.cuda.max_memory_allocated() >> 20)


def alternate(formulations: Sequence[Formulation], x: Tensor, options: argparse.Namespace) -> None:
    """Blocks of steps of each formulation in turn."""
    for number in range(options.rounds):
        for each in formulations if number % 2 == 0 else reversed(formulations):
            each.block(x, options.steps, options.device)


def measure(case: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Figures of one case: of ours and the plain formulation, then also of ours compiled if that is asked for."""
    config = configuration(case, options)
    section = config.stages[case.partition("+")[0]]
    size = (section.batch_size, 3, section.crop_size, section.crop_size)
    x = torch.rand(size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    auto = trainer_precision(OmegaConf.create({"accelerator": options.device, "precision": "auto"}))
    ours = Formulation(build(config, case, plain=False), auto)
    plain = Formulation(build(config, case, plain=True), "32-true")
    with FlopCounter() as counter:
        run_block(ours.stage, x, 1, auto, options.device)
    teraflop = counter.total / 1e12
    for each in (ours, plain):
        each.start(x, options.device)
    alternate((ours, plain), x, options)
    result = {
        "batch_size": size[0],
        "crop_size": size[-1],
        "teraflop_per_step": teraflop,
        "ratio": _ratio(ours.wall, plain.wall),
        # Says the same on a busy machine too; nothing about a GPU's work.
        "processor_time_ratio": _ratio(ours.processor, plain.processor) if options.device == "cpu" else None,
        "ours": speed(ours, size[0], teraflop, options),
        "plain": speed(plain, size[0], teraflop, options),
        **details(ours, x, f"{case}, ours", options),
    }
    yield result
    if options.compile:
        del plain
        compiled = Formulation(build(config, case, plain=False), auto)
        compile_blocks(compiled.stage)
        compiled.start(x, options.device)
        before = len(ours.wall)
        alternate((ours, compiled), x, options)
        ratio = _ratio(compiled.wall, ours.wall[before:])
        figures = speed(compiled, size[0], teraflop, options) | details(compiled, x, f"{case}, compiled", options)
        yield result | {"compiled": figures | {"ratio_to_ours": ratio}}


def speed(formulation: Formulation, crops: int, teraflop: float, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and crops a second of a formulation whose step takes `teraflop` floating-point operations."""
    seconds = statistics.median(formulation.wall)
    peak = options.peak_tflops or known_peak(options.device)
    return {
        "seconds": spread(formulation.wall),
        "steps_per_second": 1 / seconds,
        "crops_per_second": crops / seconds,
        "teraflop_per_second": teraflop / seconds,
        "share_of_peak": teraflop / seconds / peak if peak else None,
        "peak_mb": formulation.peak_mb,
        "first_steps_seconds": formulation.start_seconds,
    }


def details(formulation: Formulation, x: Tensor, title: str, options: argparse.Namespace) -> dict[str, Any]:
    """With `--profile` operators and kernels of a step, and where it waits for the GPU; tables go to that file."""
    if options.profile is None:
        return {}
    first, steps = 2, 2
    training = (formulation.stage, x, first + steps, formulation.precision, options.device)
    look = Profile(first, options.device)
    with look.running():
        run_block(*training, look.callback)
    figures: dict[str, Any] = {"a_step": look.figures(steps)}
    lines = [f"{title}: {figures['a_step']}"]
    if options.device == "cuda":
        waits = HostWaits(first)
        with waits.counting():
            run_block(*training, waits.callback)
        figures["a_step"]["host_waits"] = sum(waits.lines.values()) / steps
        figures["host_waits"] = dict(waits.lines.most_common())
        lines += [f"{count / steps:8.1f} waits a step at {line}" for line, count in waits.lines.most_common()]
    options.profile.parent.mkdir(parents=True, exist_ok=True)
    with options.profile.open("a", encoding="utf-8") as file:
        file.write("\n".join([*lines, look.table(), ""]))
    return figures


def _ratio(ours: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    return spread([other / own for own, other in zip(ours, others, strict=True)])


def known_peak(device: str) -> float | None:
    """Dense bfloat16 TFLOP/s of the GPU, if its name is known."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", default="small", help="of conf/model (default small)")
    parser.add_argument("--experiment", help="of conf/experiment: crops, batches, losses")
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="pairs of blocks (default 5)")
    parser.add_argument("--steps", type=int, default=3, help="measured steps in a block (default 3)")
    parser.add_argument("--gan-weight", choices=("sample", "batch"), default="sample", help="adaptive weights per")
    parser.add_argument("--compile", action="store_true", help="measure our formulation compiled, too")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="text: where the time goes, what waits for a GPU")
    parser.add_argument("--peak-tflops", type=float, help="of the device, for the share of its peak")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further configuration overrides")
    machine_options(parser)
    options = parser.parse_args(arguments)
    experiment, cases = USUAL[options.device]
    options.experiment, options.cases = options.experiment or experiment, options.cases or list(cases)
    return checked(parser, options, rounds=1, steps=1)


def told(case: str, result: dict[str, Any]) -> str:
    """A line for each formulation."""
    ratio, processor = result["ratio"], result["processor_time_ratio"]
    against = f"{ratio['median']:.2f}x faster than plain ({ratio['min']:.2f} to {ratio['max']:.2f})"
    against += f", processor time {processor['median']:.2f}x" if processor else ""
    lines = []
    for name in ("ours", "plain", "compiled"):
        if (found := result.get(name)) is None:
            continue
        share, compiled = found["share_of_peak"], found.get("ratio_to_ours")
        lines.append(
            f"{case:16} {name:8} {found['seconds']['median']:.3f} s a step, {found['crops_per_second']:.1f} crops/s, "
            f"{found['teraflop_per_second']:.2f} TFLOP/s"
            + (f" ({share:.1%} of peak)" if share else "")
            + (f", {found['peak_mb']} MB" if found["peak_mb"] else "")
            + (f", {against}" if name == "ours" else "")
            + (f", {compiled['median']:.2f}x faster than eager, " if compiled else "")
            + (f"first steps {found['first_steps_seconds']:.0f} s" if compiled else "")
        )
    if figures := result.get("a_step"):
        lines.append(f"{case:16} a step of ours: " + ", ".join(f"{n} {figure:.4g}" for n, figure in figures.items()))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all cases, prints lines for each and writes the record after each."""
    options = parse(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    torch.set_num_threads(options.threads)
    load = machine_load()
    if options.profile is not None:
        options.profile.unlink(missing_ok=True)
    results = {}
    for case in options.cases:
        for result in measure(case, options):
            results[case] = result
            print(told(case, result), flush=True)
            write_record(options, f"step_{options.model}", load, results)
    smallest = min(result["ratio"]["median"] for result in results.values())
    print(f"smallest ratio {smallest:.2f}, asked for on a CPU: {BAR}; load before the start {load}")


if __name__ == "__main__":
    main()
