"""Seconds and peak memory of encoding and decoding a picture, and what exact arithmetic costs.

``python -m benchmarks.codec --models small base``. The plain path is the same codec whose entropy parameters come from
float32 networks: its files could not be read on another machine.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measures import model_config, peak_megabytes, seconds
from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train import load_codec
from glc_train.codecs import ImageCodec
from glc_train.codecs.exact_stream import ExactLatentCoder
from glc_train.data import render_picture
from glc_train.weights import build_codec


def float_codec(codec: ImageCodec) -> ImageCodec:
    """A copy of the codec that codes with float32 networks."""
    plain = copy.deepcopy(codec)
    coder = plain.picture_coder()
    if not isinstance(coder, ExactLatentCoder):
        raise SystemExit("the benchmark is about models with entropy parameters: these weights have none")
    coder.decoder = plain.transform.decoder
    return plain


def build_model(name: str, weights: Path | None, device: str) -> ImageCodec:
    """The codec of conf/model/NAME.yaml with random weights, or of a weights file."""
    if weights is not None:
        return load_codec(weights, device=device)
    torch.manual_seed(0)
    return build_codec(model_config(name)).to(device).eval().requires_grad_(False)


def measure(codec: ImageCodec, picture: np.ndarray, repeats: int, device: str) -> dict[str, Any]:
    """Figures of one model on a picture uint8 (H, W, 3); both paths alternate.

    Raises:
        RuntimeError: a path does not decode what it encoded.
    """
    paths = {"exact": codec, "plain": float_codec(codec)}
    files = {name: path.compress(picture, 0) for name, path in paths.items()}  # also the warm-up
    for name, path in paths.items():
        header, _ = path.decompress_latent(files[name])
        if (header.height, header.width) != picture.shape[:2]:
            raise RuntimeError(f"the {name} path decoded a picture of another size")
    actions: dict[str, dict[str, Callable[[], Any]]] = {
        "encode": {name: partial(path.compress, picture, 0) for name, path in paths.items()},
        "decode": {name: partial(path.decompress, files[name]) for name, path in paths.items()},
    }
    results: dict[str, Any] = {"parameters": sum(p.numel() for p in codec.parameters())}
    for operation, by_path in actions.items():
        times: dict[str, list[float]] = {name: [] for name in by_path}
        for number in range(repeats):
            for name in list(by_path) if number % 2 == 0 else reversed(list(by_path)):
                times[name].append(seconds(by_path[name], device))
        results[operation] = {
            "seconds": {name: spread(values) for name, values in times.items()},
            "exact_over_plain": spread([e / p for e, p in zip(times["exact"], times["plain"], strict=True)]),
            **peak_megabytes(by_path["exact"], device),
        }
    results["file_bytes"] = {name: len(data) for name, data in files.items()}
    return results


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small"], help="of conf/model, random weights (default small)")
    parser.add_argument("--weights", type=Path, help="a weights file instead of --models")
    parser.add_argument("--size", type=int, nargs=2, default=(768, 512), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each path (default 3)")
    machine_options(parser)
    options = parser.parse_args(arguments)
    if min(options.size) < 1:
        parser.error("--size must be positive")
    return checked(parser, options, repeats=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all models, prints two lines for each and writes the record."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    load = machine_load()
    width, height = options.size
    picture = render_picture(height, width, 0)
    results = {}
    for name in [options.weights.name] if options.weights else options.models:
        codec = build_model(name, options.weights, options.device)
        results[name] = measured = measure(codec, picture, options.repeats, options.device)
        for operation in ("encode", "decode"):
            figures = measured[operation]
            ratio = figures["exact_over_plain"]
            print(
                f"{name:10} {operation} {figures['seconds']['exact']['median']:.2f} s, "
                f"{ratio['median']:.2f}x the plain float path ({ratio['min']:.2f} to {ratio['max']:.2f}), "
                f"peak {figures['peak_mb']} MB ({figures['before_mb']} MB before)",
                flush=True,
            )
    names = "weights" if options.weights else "_".join(options.models)
    write_record(options, f"codec_{names}", load, results)


if __name__ == "__main__":
    main()
