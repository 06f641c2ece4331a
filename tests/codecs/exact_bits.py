"""What must be the same bits on every machine, as one JSON object of hashes: run by `test_every_machine` as
`python -m tests.codecs.exact_bits FOLDER [walk]` under several settings of the environment; with `walk`, those of the
process too.

FOLDER holds what `write_example` wrote: a clip, a picture and the weights they were written with, for even random
initial weights differ between machines.
"""

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.measures import model_config
from glc_train.codecs import VideoCodec, VideoDecoder, compress_clip
from glc_train.layers import FiniteScalarQuantiser, calibrate, conv1x1, exact_copy
from glc_train.transform.video_modules import WeightGenerator
from tests.codecs.conftest import scaled_codec
from tests.codecs.video_harness import CLIP, QUALITY, build

EDGES = 256
WEIGHTS, CLIP_NAME, PICTURE_NAME = "weights.safetensors", "clip.glcv", "picture.glc"


def video_codec(weights: Path | None = None) -> VideoCodec:
    """A tiny codec whose image codec's 4 quality levels were expanded to 64; with the weights of an example."""
    image = scaled_codec(model_config(), 3.0)
    state = load_file(weights) if weights else {}
    if state:
        image.load_state_dict({n.removeprefix("image."): t for n, t in state.items() if n.startswith("image.")})
    codec = build(image)
    codec.load_state_dict({n: t for n, t in state.items() if not n.startswith("image.")}, strict=False)
    return codec


def write_example(folder: Path, frames: list[np.ndarray]) -> None:
    """Writes weights, a clip of `frames`, and the first of them as a picture."""
    image = scaled_codec(model_config(), 3.0)
    codec = build(image)
    state = {f"image.{n}": t for n, t in image.state_dict().items()}
    save_file(state | {n: t for n, t in codec.state_dict().items() if not n.startswith("image.")}, folder / WEIGHTS)
    (folder / CLIP_NAME).write_bytes(compress_clip(codec, frames, QUALITY, CLIP).data)
    (folder / PICTURE_NAME).write_bytes(codec.image.compress(frames[0], QUALITY))


def layouts(x: Tensor) -> list[Tensor]:
    """x (B, C, h, w), channels last, and with a stride of 3 in its rows: the same values."""
    strided = torch.zeros(*x.shape[:-1], 3 * x.shape[-1], dtype=x.dtype)[..., ::3]
    return [x, x.to(memory_format=torch.channels_last), strided.copy_(x)]


def hostile_weight_map() -> Tensor:
    """(1, 256, 1, 1): logits at or next to where the rounded sigmoid steps up, as sums of a product and a bias."""
    context, conv = Context(prec=40), conv1x1(1, EDGES)
    weight = np.random.default_rng(0).integers(-127, 128, EDGES) / np.float32(16)
    bias = np.zeros(EDGES, np.float32)
    for k in range(EDGES):
        edge = context.ln(context.divide(Decimal(2 * k + 1), Decimal(2 * EDGES - 2 * k - 1)))
        bias[k] = np.nextafter(np.float32(float(edge) - weight[k]), np.float32(99 * (k % 3 - 1)))
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight).view(-1, 1, 1, 1))
        assert conv.bias is not None
        conv.bias.copy_(torch.from_numpy(bias))
    generator = WeightGenerator(4, EDGES // 4, 4)
    generator.layers = nn.Sequential(conv)
    exact, one = exact_copy(generator), torch.ones(1, 1, 1, 1)
    calibrate(exact, lambda: exact(one))
    found: Tensor = exact(one)
    return found


def bits(values: Tensor) -> str:
    """Hash of a tensor's values, whatever its layout."""
    return hashlib.sha256(values.detach().contiguous().numpy().tobytes()).hexdigest()


@contextlib.contextmanager
def _matmul(precision: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _flushed() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "plain": contextlib.nullcontext,
    "two threads": lambda: _threads(2),
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "high precision": lambda: _matmul("high"),
    "medium precision": lambda: _matmul("medium"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "subnormal numbers flushed": _flushed,
}


def decoded(folder: Path) -> tuple[VideoCodec, list[Tensor], list[str]]:
    """A codec made anew, the latents of the clip and y of the picture, and the damages found."""
    codec = video_codec(folder / WEIGHTS)
    decoder = VideoDecoder(codec, io.BytesIO((folder / CLIP_NAME).read_bytes()))
    latents = []
    while (record := decoder._next_latent()) is not None and record.kind != "end":
        latents.append(decoder._chain.previous().latent_hat)
    latents.append(codec.image.decompress_symbols((folder / PICTURE_NAME).read_bytes())[1])
    return codec, latents, [str(damage) for damage in decoder.damages]


def main(folder: Path, walk: bool) -> None:
    """Prints the hashes."""
    found: dict[str, Any] = {"latents": {}, "damages": []}
    for name, setting in SETTINGS.items() if walk else [("plain", SETTINGS["plain"])]:
        with setting():
            codec, latents, damages = decoded(folder)
            found["latents"][name] = [bits(latent) for latent in latents]
            found["damages"] += damages
    exact = codec.frame_coder().decoder
    previous = latents[0].repeat(1, 1, 3, 5)[..., :7, :13]
    for name, x in zip(("contiguous", "channels last", "strided"), layouts(previous), strict=True):
        given = exact.context_of(x, 0)
        found[name] = [bits(given.context), bits(given.weight_map)]
    scalars = FiniteScalarQuantiser((8, 7, 5, 5), 64).requires_grad_(False)
    noise = np.random.default_rng(0).standard_normal((64, 4, 1, 1))
    scalars.project_out.weight.copy_(torch.from_numpy(noise))
    assert scalars.project_out.bias is not None
    scalars.project_out.bias.copy_(torch.from_numpy(noise[:, 0, 0, 0]))
    found |= {
        "fingerprint": codec.fingerprint,
        "weight map": bits(hostile_weight_map()),
        "finite scalars": bits(scalars.code_vectors()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), walk="walk" in sys.argv[2:])
