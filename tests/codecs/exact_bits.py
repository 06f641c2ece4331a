"""What must be the same bits on every machine, as one JSON object of hashes: run by `test_every_machine` as
`python -m tests.codecs.exact_bits FOLDER` under several settings.

FOLDER holds what `write_example` wrote: a clip and the weights it was written with, for even random initial weights
differ between machines.
"""

import hashlib
import io
import json
import sys
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glc_train.codecs import VideoCodec, VideoDecoder, compress_clip
from glc_train.layers import FiniteScalarQuantiser, conv1x1, exact_copy
from glc_train.transform.video_modules import WeightGenerator
from tests.codecs.conftest import scaled_codec
from tests.codecs.video_harness import CLIP, QUALITY, build

EDGES = 4096
WEIGHTS, CLIP_NAME = "weights.safetensors", "clip.glcv"
TINY = Path(__file__).parents[2] / "conf" / "model" / "tiny.yaml"


def video_codec(weights: Path | None = None) -> VideoCodec:
    """A tiny codec whose image codec's 4 quality levels were expanded to 64; with the weights of an example."""
    image = scaled_codec(cast(dict, OmegaConf.to_container(OmegaConf.load(TINY))), 3.0)
    state = load_file(weights) if weights else {}
    if state:
        image.load_state_dict({n.removeprefix("image."): t for n, t in state.items() if n.startswith("image.")})
    codec = build(image)
    codec.load_state_dict({n: t for n, t in state.items() if not n.startswith("image.")}, strict=False)
    return codec


def write_example(folder: Path, frames: list[np.ndarray]) -> None:
    """Writes weights and a clip of `frames`."""
    image = scaled_codec(cast(dict, OmegaConf.to_container(OmegaConf.load(TINY))), 3.0)
    codec = build(image)
    state = {f"image.{n}": t for n, t in image.state_dict().items()}
    save_file(state | {n: t for n, t in codec.state_dict().items() if not n.startswith("image.")}, folder / WEIGHTS)
    (folder / CLIP_NAME).write_bytes(compress_clip(codec, frames, QUALITY, CLIP).data)


def layouts(x: Tensor) -> list[Tensor]:
    """x (B, C, h, w), channels last, and with a stride of 3 in its rows: the same values."""
    strided = torch.zeros(*x.shape[:-1], 3 * x.shape[-1], dtype=x.dtype)[..., ::3]
    return [x, x.to(memory_format=torch.channels_last), strided.copy_(x)]


def hostile_weight_map() -> Tensor:
    """(1, 4096, 1, 1): logits within a few units in the last place of where the rounded sigmoid steps up.

    Each is the sum of a float32 bias and of two products, one with 1 and one with 2^-12, of weights on one 16-bit grid.
    """
    context, unit = Context(prec=40), Decimal(2) ** -37
    conv = conv1x1(2, EDGES)
    weight, bias = np.zeros((EDGES, 2)), np.zeros(EDGES, np.float32)
    for k in range(EDGES):
        edge = context.ln(context.divide(Decimal(2 * k + 1), Decimal(2 * EDGES - 2 * k - 1)))
        bias[k] = float(edge)
        rest = context.subtract(edge, Decimal(float(bias[k])))
        for column, activation in enumerate((Decimal(1), Decimal(2) ** -12)):
            weight[k, column] = context.divide(rest, unit * activation).to_integral_value() * unit
            rest = context.subtract(rest, context.multiply(Decimal(weight[k, column]), activation))
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight[..., None, None]))
        assert conv.bias is not None
        conv.bias.copy_(torch.from_numpy(bias))
    generator = WeightGenerator(4, EDGES // 4, 4)
    generator.layers = nn.Sequential(conv)
    return exact_copy(generator)(torch.tensor([1.0, 2.0**-12], dtype=torch.float64).view(1, 2, 1, 1))


def bits(values: Tensor) -> str:
    """Hash of a tensor's values, whatever its layout."""
    return hashlib.sha256(values.detach().contiguous().numpy().tobytes()).hexdigest()


def main(folder: Path) -> None:
    """Prints the hashes."""
    codec = video_codec(folder / WEIGHTS)
    decoder = VideoDecoder(codec, io.BytesIO((folder / CLIP_NAME).read_bytes()))
    latents = [decoder._chain.previous().latent_hat for _ in decoder]
    exact = codec.frame_coder().decoder
    found: dict[str, Any] = {}
    previous = latents[-1].repeat(1, 1, 3, 5)[..., :7, :13]
    for name, x in zip(("contiguous", "channels last", "strided"), layouts(previous), strict=True):
        given = exact.context_of(x, 0)
        found[name] = [bits(given.context), bits(given.weight_map)]
    scalars = FiniteScalarQuantiser((8, 7, 5, 5), 64).requires_grad_(False)
    noise = np.random.default_rng(0).standard_normal((64, 4, 1, 1))
    scalars.project_out.weight.copy_(torch.from_numpy(noise))
    found |= {
        "damages": [str(damage) for damage in decoder.damages],
        "fingerprint": codec.fingerprint,
        "latents": [bits(latent) for latent in latents],
        "weight map": bits(hostile_weight_map()),
        "finite scalars": bits(scalars.code_vectors()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
