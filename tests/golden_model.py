"""The base model with the parameters of the golden figures, and their input picture.

Every parameter follows from its published name, its shape and a seed, so nothing needs to be carried along. The names
and shapes come from our own model; `PUBLISHED` is written independently of the table in `glc_train.weights`.
"""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from glc_train.codecs import ImageCodec

WEIGHT_SEED = 1
PICTURE_SEED = 7
HEIGHT, WIDTH = 128, 192
QUALITY = 1
HEADS = ("code_pred_loss", "code_pred_pix_loss")

# Our module → its published name, longest first. Blocks A and B also get `.block` before their two parts.
PUBLISHED = {
    "transform.decoder.hyper_synthesis.upsample.0.main.0": "hyper_dec.0.subpel_conv.0",
    "transform.decoder.hyper_synthesis.upsample.0.skip.0": "hyper_dec.0.upsample.0",
    "transform.decoder.hyper_synthesis.upsample.0.conv": "hyper_dec.0.conv",
    "transform.decoder.hyper_synthesis.upsample.1.main.0": "hyper_dec.1.subpel_conv.0",
    "transform.decoder.hyper_synthesis.upsample.1.skip.0": "hyper_dec.1.upsample.0",
    "transform.decoder.hyper_synthesis.upsample.1.conv": "hyper_dec.1.conv",
    "transform.decoder.hyper_synthesis.refine": "hyper_dec.2",
    "transform.decoder.hyper_synthesis.fusion": "y_prior_fusion",
    "transform.decoder.context.reduction": "y_spatial_prior_reduction",
    "transform.decoder.context.adaptors.0": "y_spatial_prior_adaptor_1",
    "transform.decoder.context.adaptors.1": "y_spatial_prior_adaptor_2",
    "transform.decoder.context.adaptors.2": "y_spatial_prior_adaptor_3",
    "transform.decoder.context.shared": "y_spatial_prior",
    "transform.decoder.synthesis.first": "dec.dec_1",
    "transform.decoder.synthesis.second": "dec.dec_2",
    "transform.decoder.synthesis.gain": "q_dec",
    "transform.analysis.first": "enc.enc_1",
    "transform.analysis.second": "enc.enc_2",
    "transform.analysis.gain": "q_enc",
    "transform.hyper_analysis": "hyper_enc",
    "transform.z_quantiser": "z_vq",
    "autoencoder.decoder": "vqgan.generator",
    "autoencoder.quantiser": "vqgan.quantize",
    "autoencoder.encoder": "vqgan.encoder",
}


def published_name(codec: nn.Module, name: str, table: Mapping[str, str] = PUBLISHED) -> str:
    """The published name of the parameter `name` of our codec."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = codec.get_submodule(".".join(parts[: end - 1]))
        if name.startswith("transform.") and isinstance(module, nn.Sequential) and _is_block(module):
            parts.insert(end - 1, "block")
    full = ".".join(parts)
    for ours, theirs in table.items():
        if full == ours or full.startswith(ours + "."):
            return theirs + full.removeprefix(ours)
    raise KeyError(f"no published name for {name}")


def _is_block(module: nn.Sequential) -> bool:
    kinds = [type(child).__name__ for child in module]
    return len(kinds) == 2 and kinds[0].endswith("DepthConv") and kinds[1].endswith("FFN")


def published_shapes(codec: ImageCodec, heads: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """Published name → shape, of all parameters of the codec and of the code predictors."""
    shapes = {published_name(codec, name): tuple(p.shape) for name, p in codec.named_parameters()}
    for head, module in heads.items():
        shapes |= {f"{head}.{name}": tuple(p.shape) for name, p in module.named_parameters()}
    return shapes


def golden_parameter(name: str, shape: tuple[int, ...], seed: int = WEIGHT_SEED) -> Tensor:
    """Value of a parameter, float32: uniform noise whose generator is seeded by the name, scaled by the kind."""
    noise = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())])).random(shape, dtype=np.float32)
    noise = noise * 2 - 1
    last = name.split(".")[-1]
    one = np.float32(1)
    if last in ("q_enc", "y_q_enc"):
        value = np.float32(3) * (one + np.float32(0.25) * noise)
    elif last in ("q_dec", "y_q_dec"):
        value = (one + np.float32(0.25) * noise) / np.float32(3)
    elif name.endswith("embedding.weight"):
        value = noise
    elif last == "position_emb":
        value = np.float32(0.1) * noise
    elif len(shape) > 1:
        value = noise * np.float32(0.7 * np.sqrt(3.0 / int(np.prod(shape[1:]))))
    elif last == "weight":  # of a normalisation
        value = one + np.float32(0.1) * noise
    else:
        value = np.float32(0.05) * noise
    return torch.from_numpy(np.ascontiguousarray(value))


def golden_state(codec: ImageCodec, heads: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The golden parameters under their published names."""
    return {name: golden_parameter(name, shape) for name, shape in published_shapes(codec, heads).items()}


def golden_picture(height: int = HEIGHT, width: int = WIDTH, seed: int = PICTURE_SEED, frame: int = 0) -> Tensor:
    """Picture (1, 3, height, width) in [-1, 1]: six waves a channel that drift with `frame`, and noise of the frame."""
    draw = np.random.Generator(np.random.PCG64([seed]))
    rows, columns = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None]
    waves = np.zeros((3, height, width))
    for channel in waves:
        for order in range(1, 7):
            across, down = draw.uniform(-0.12, 0.12, size=2)
            phase = draw.uniform(0, 6.28)
            speed = draw.uniform(-1.5, 1.5)
            channel += np.sin(across * (columns - speed * frame) + down * rows + phase) / order
    noise = np.random.Generator(np.random.PCG64([seed, frame])).standard_normal(waves.shape)
    return torch.from_numpy(np.clip((waves + 0.05 * noise) / 2, -1, 1).astype(np.float32))[None]
