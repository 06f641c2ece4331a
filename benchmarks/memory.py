"""Peak memory and seconds of coding a picture as a whole and in stripes.

``python -m benchmarks.memory --models small --sizes 768x512 1920x1080``. Seconds are those of encoder and decoder, both
ways in turn in one process, on a CPU those of the processor, which other programs hardly change. Every peak is that of
a process of its own, in which one of them runs once.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.codec import build_model
from benchmarks.measures import apart, peak_megabytes, seconds
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train import precision
from glc_train.autoencoder import footprint
from glc_train.codecs import ImageCodec
from glc_train.codecs.image import pad_to_multiple
from glc_train.data import render_picture
from glc_train.pixels import picture_to_tensor

WAYS = ("stripes", "whole")
OPERATIONS = ("encode", "decode")
_NOTHING, _ALL = 1, 1 << 60  # budgets


def _codec(model: str, options: argparse.Namespace) -> ImageCodec:
    torch.set_num_threads(options.threads)
    codec = build_model(model, None, options.device)
    codec.compute_dtype = getattr(torch, options.dtype)
    return codec


def ratios(model: str, width: int, height: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of encoder and decoder both ways, in turn, and whether both give the same bits."""
    codec = _codec(model, options)
    x = pad_to_multiple(picture_to_tensor(render_picture(height, width, 0)), codec.multiple).to(codec.device)
    results: dict[str, Any] = {}
    for operation in OPERATIONS:
        run = codec.encode_latent if operation == "encode" else codec.decode_latent
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        made: dict[str, torch.Tensor] = {}

        def once(way: str, run: Any = run, x: torch.Tensor = x, made: dict[str, torch.Tensor] = made) -> None:
            codec.limit_memory(_NOTHING if way == "stripes" else _ALL)
            made[way] = run(x)

        with torch.inference_mode():
            for number in range(options.repeats):
                for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                    start = time.process_time()
                    passed = seconds(partial(once, way), options.device)
                    times[way].append(passed if options.device == "cuda" else time.process_time() - start)
        results[operation] = {
            "seconds": {way: spread(taken) for way, taken in times.items()},
            "stripes_over_whole": min(times["stripes"]) / min(times["whole"]),
            "largest_difference": float((made["stripes"] - made["whole"]).abs().max()),
        }
        x = made["whole"]
    return results


def peaks(
    model: str, width: int, height: int, options: argparse.Namespace, operation: str, way: str
) -> dict[str, int | None]:
    """Largest memory of a process in which the encoder or the decoder runs once, and what was expected to be added.

    Pictures come as bytes, as from files.
    """
    codec = _codec(model, options)
    rows, columns = codec.latent_size(height, width)
    sides = (rows * codec.autoencoder.factor, columns * codec.autoencoder.factor)
    network = codec.autoencoder.encoder if operation == "encode" else codec.autoencoder.decoder
    need = footprint(network, *sides, codec.compute_dtype.itemsize)
    codec.limit_memory(_NOTHING if way == "stripes" else _ALL)
    encoding = operation == "encode"
    run = codec.encode_latent if encoding else codec.decode_latent
    size = (1, 3, *sides) if encoding else (1, codec.latent_channels, rows, columns)
    x = torch.zeros(size, dtype=torch.uint8 if encoding else torch.float32, device=codec.device)
    with torch.inference_mode():
        found = peak_megabytes(partial(run, x), options.device)
    return {"estimated_mb": (need.stripes if way == "stripes" else need.whole) >> 20, **found}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small"], help="of conf/model, random weights (default small)")
    parser.add_argument("--sizes", nargs="+", default=["768x512"], metavar="WxH")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--dtype", choices=precision.NAMES[1:], default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="of each way (default 3); 0: no seconds")
    machine_options(parser)
    return checked(parser, parser.parse_args(arguments), repeats=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all models and sizes, prints lines for each and writes the record."""
    options, load = parse(arguments), machine_load()
    results: dict[str, Any] = {}
    for model in options.models:
        for size in options.sizes:
            width, height = map(int, size.split("x"))
            case = (model, width, height, options)
            found = apart(ratios, *case) if options.repeats else {each: {} for each in OPERATIONS}
            for operation in OPERATIONS:
                for way in options.ways:
                    found[operation][way] = apart(peaks, *case, operation, way)
                print(f"{model} {size} {operation}: {found[operation]}", flush=True)
            results[f"{model} {size}"] = found
    write_record(options, "memory", load, results)


if __name__ == "__main__":
    main()
