"""Seconds and arithmetic of the auto-encoder alone, against its plain formulation, with a share of the device's peak.

``python -m benchmarks.autoencoder --device cuda`` takes less than a minute on a data-centre GPU. Plain: float32,
contiguous maps, eager, and the layers as training computes them. ``--compile`` measures ours after `torch.compile` as
well, as far as the time goes; a picture size takes the longer the first time.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.codec import build_model
from benchmarks.measures import seconds
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.codecs import ImageCodec, pad_to_multiple
from glc_train.precision import choose, name_of

H100_TFLOPS = 989.0  # dense bfloat16, by its data sheet
OPERATIONS = ("encode", "decode")


def peak_tflops(device: str, dtype: torch.dtype) -> float:
    """What a large product of two matrices reaches, the best of five."""
    size = 8192 if device == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    least = min(seconds(lambda: matrix @ matrix, device) for _ in range(6))
    return 2 * size**3 / least / 1e12


@contextmanager
def plain_path(codec: ImageCodec) -> Iterator[None]:
    """Float32, and layers as training computes them: with gradients enabled, though nothing here has one."""
    dtype, codec.compute_dtype = codec.compute_dtype, torch.float32
    try:
        with torch.enable_grad():
            yield
    finally:
        codec.compute_dtype = dtype


@contextmanager
def tuned_path() -> Iterator[None]:
    """Ours, with cuDNN's kernels chosen by trial."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.backends.cudnn.benchmark = before


def paths_of(codec: ImageCodec, device: str) -> dict[str, Callable[[], Any]]:
    """Contexts in which the networks are measured."""
    paths: dict[str, Callable[[], Any]] = {"plain": partial(plain_path, codec), "ours": torch.inference_mode}
    return paths | ({"tuned": tuned_path} if device == "cuda" else {})


def measure(codec: ImageCodec, x: Tensor, repeats: int, device: str) -> dict[str, Any]:
    """Seconds and FLOPs of every path, which alternate; x (1, 3, H, W) in [-1, 1]."""
    paths = paths_of(codec, device)
    calls: dict[str, Callable[[Tensor], Tensor]] = {"encode": codec.encode_latent, "decode": codec.decode_latent}
    results: dict[str, Any] = {}
    given = x
    for operation, call in calls.items():
        flops, times = {}, {name: list[float]() for name in paths}
        outputs = {}
        for name, path in paths.items():
            with path(), FlopCounterMode(display=False) as counter:
                outputs[name] = call(given).detach()
            flops[name] = counter.get_total_flops()
        for _ in range(repeats):
            for name, path in paths.items():
                with path():
                    times[name].append(seconds(lambda: call(given), device))  # noqa: B023 - called at once
        results[operation] = {
            name: {"seconds": spread(times[name]), "tflop": flops[name] / 1e12, "error": _error(outputs, name)}
            for name in paths
        }
        given = outputs["plain"]
    return results


def _error(outputs: dict[str, Tensor], name: str) -> float:
    """Root mean square difference from plain, in terms of plain's own root mean square."""
    plain = outputs["plain"].float()
    return float((outputs[name].float() - plain).square().mean().sqrt() / plain.square().mean().sqrt())


def summed(results: dict[str, Any], peak: float) -> dict[str, Any]:
    """Both operations together, for every path: ms, TFLOP/s, shares of the peaks, times as fast as plain."""
    found = {}
    for path in results["encode"]:
        taken = sum(results[operation][path]["seconds"]["min"] for operation in OPERATIONS)
        plain = sum(results[operation]["plain"]["seconds"]["min"] for operation in OPERATIONS)
        rate = sum(results[operation][path]["tflop"] for operation in OPERATIONS) / taken
        found[path] = {
            "ms": 1e3 * taken,
            "tflops": rate,
            "share_of_measured_peak": rate / peak,
            "share_of_989_tflops": rate / H100_TFLOPS,
            "times_as_fast_as_plain": plain / taken,
        }
    return found


def measure_compiled(codec: ImageCodec, x: Tensor, repeats: int, device: str) -> dict[str, Any]:
    """Seconds to compile, and of each operation afterwards."""
    codec.compile_networks()
    with torch.inference_mode():
        begin = time.perf_counter()
        latent = codec.encode_latent(x)
        codec.decode_latent(latent)
        compiling = time.perf_counter() - begin
        taken = {
            operation: min(seconds(action, device) for _ in range(repeats))
            for operation, action in (
                ("encode", lambda: codec.encode_latent(x)),
                ("decode", lambda: codec.decode_latent(latent)),
            )
        }
    return {"seconds_to_compile": compiling, "seconds": taken}


def show(name: str, found: dict[str, Any]) -> None:
    """A line for every path."""
    for path, figures in found.items():
        print(
            f"{name:16} {path:9} {figures['ms']:9.2f} ms {figures['tflops']:8.2f} TFLOP/s "
            f"{figures['share_of_measured_peak']:6.1%} of the measured peak "
            f"{figures['share_of_989_tflops']:6.1%} of 989 {figures['times_as_fast_as_plain']:6.2f} x plain",
            flush=True,
        )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoencoder", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["base", "small"], help="of conf/model, random weights")
    parser.add_argument("--sizes", nargs="+", default=["768x512", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each path (default 5)")
    parser.add_argument("--compile", action="store_true", help="measure the compiled networks too")
    parser.add_argument("--seconds", type=float, default=45, help="nothing is compiled later than this (default 45)")
    machine_options(parser)
    return checked(parser, parser.parse_args(arguments), repeats=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all models at all sizes, prints a line for each path and writes the record."""
    options = parse(arguments)
    begin = time.perf_counter()
    torch.set_num_threads(options.threads)
    load, dtype = machine_load(), choose(options.device).dtype
    peak = peak_tflops(options.device, dtype)
    print(f"{name_of(dtype)}: a matrix product reaches {peak:.2f} TFLOP/s")
    cases: dict[str, Any] = {}
    results = {"dtype": name_of(dtype), "measured_peak_tflops": peak, "cases": cases}
    pictures: dict[str, tuple[ImageCodec, Tensor]] = {}
    for model in options.models:
        codec = build_model(model, None, options.device)
        codec.compute_dtype = dtype
        for size in options.sizes:
            width, height = map(int, size.split("x"))
            x = pad_to_multiple(torch.rand(1, 3, height, width, device=options.device) * 2 - 1, codec.multiple)
            figures = measure(codec, x, options.repeats, options.device)
            name = f"{model} {size}"
            cases[name] = figures | {"both": summed(figures, peak)}
            show(name, cases[name]["both"])
            pictures[name] = codec, x
    write_record(options, "autoencoder", load, results)
    for name, (codec, x) in pictures.items() if options.compile else ():
        if time.perf_counter() - begin > options.seconds:
            cases[name]["compiled"] = None
            continue
        cases[name]["compiled"] = found = measure_compiled(codec, x, options.repeats, options.device)
        taken = {f"{operation} {1e3 * value:.2f} ms" for operation, value in found["seconds"].items()}
        print(f"{name:16} compiled in {found['seconds_to_compile']:.1f} s: {', '.join(sorted(taken))}", flush=True)
        write_record(options, "autoencoder", load, results)


if __name__ == "__main__":
    main()
