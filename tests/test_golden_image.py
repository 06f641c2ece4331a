"""The base model against outputs of the published image model: in full where the reference data is, else a sample.

`expected/golden_image.safetensors` holds up to 512 evenly spaced values of each golden tensor, and in full what is
integer or an input. It copies published figures, so this project's own outputs must never regenerate it.
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from glc_train.autoencoder import VQVAE
from glc_train.codecs import ImageCodec
from glc_train.losses import CodePredictor
from glc_train.transform import ImageTransform, published_gaussian_bits
from glc_train.weights import load_strictly, predictor_state, rename_published
from tests.golden_model import HEADS, QUALITY, golden_parameter, golden_picture, golden_state, published_shapes

SAMPLES = 512
SAMPLED_CLASSES = 64  # of the predictors' logits, in the golden figures
INPUT = "predictor_input"

# Before any rounding: every value within 1e-4 of the standard deviation.
SMOOTH = ("x", "latent", "latent_train_mode", "y", "z", "prior_params")
PREDICTED = ("predictor_logits_head", "predictor_logits_mean", "pixel_predictor_logits_head")
# Indices and symbols: in 99.9% of places, since a value on a rounding edge may fall either way.
ROUNDED = ("latent_indices", "z_indices", "y_symbols", "predictor_argmax")
# What follows a rounding moves with it: root mean square within 1e-3 of the standard deviation.
DECODED = ("vqvae_reconstruction", "scales", "y_hat", "latent_hat", "x_hat", "x_hat_from_z")
BITS = ("bits_y", "bits_z")
NAMES = (*SMOOTH, *PREDICTED, *ROUNDED, *DECODED, *BITS)

Model = tuple[ImageCodec, dict[str, nn.Module]]


def sample(values: Tensor) -> Tensor:
    """Up to SAMPLES evenly spaced values, flat."""
    flat = values.flatten()
    return flat[:: math.ceil(flat.numel() / SAMPLES)].contiguous()


def assert_close(name: str, ours: Tensor, golden: Tensor, deviation: float) -> None:
    """Compares values; `deviation`: standard deviation of the whole golden tensor."""
    assert ours.shape == golden.shape
    error = (ours.double() - golden.double()).abs()
    if name in SMOOTH + PREDICTED:
        assert float(error.max()) <= 1e-4 * deviation
    elif name in ROUNDED:
        assert float((error < 0.5).double().mean()) >= 0.999
    elif name in DECODED:
        assert float(error.square().mean().sqrt()) <= 1e-3 * deviation
    else:
        assert float((error / golden.double()).max()) <= 1e-3


@pytest.fixture(scope="module")
def carried(repository: Path) -> dict[str, Tensor]:
    return load_file(repository / "tests" / "expected" / "golden_image.safetensors")


@pytest.fixture(scope="module")
def model() -> Model:
    codec = ImageCodec(VQVAE(), ImageTransform()).eval()
    heads: dict[str, nn.Module] = {head: CodePredictor().eval() for head in HEADS}
    state = golden_state(codec, heads)
    load_strictly(codec, rename_published(state), "golden parameters", optional=["transform.z_counts"])
    for head, module in heads.items():
        load_strictly(module, predictor_state(state, head), head)
    return codec, heads


@pytest.fixture(scope="module")
def outputs(model: Model, carried: dict[str, Tensor]) -> dict[str, Tensor]:
    codec, heads = model
    x = golden_picture()
    with torch.inference_mode():
        out = codec(x, QUALITY)
        quantised = codec.autoencoder.quantiser(out.latent)
        preview = codec.transform.preview(out.z_indices, torch.tensor([QUALITY]))
        logits, pixel_logits = (heads[head](carried[INPUT]) for head in HEADS)
        return {
            "x": x,
            "latent": out.latent,
            "latent_train_mode": codec.autoencoder.encoder(x),
            "latent_indices": quantised.indices,
            "vqvae_reconstruction": codec.decode_latent(quantised.vectors),
            "y": out.y,
            "z": out.z,
            "z_indices": out.z_indices,
            "prior_params": out.prior.raw,
            "y_symbols": out.symbols,
            "scales": out.scales,
            "y_hat": out.y_hat,
            "latent_hat": out.latent_hat,
            "x_hat": out.x_hat,
            "x_hat_from_z": codec.decode_latent(preview),
            "bits_y": published_gaussian_bits(out.symbols, out.scales).double().sum().reshape(1),
            "bits_z": out.bits_z,
            "predictor_logits_head": logits[..., :SAMPLED_CLASSES],
            "predictor_logits_mean": logits.mean(-1),
            "predictor_argmax": logits.argmax(-1),
            "pixel_predictor_logits_head": pixel_logits[..., :SAMPLED_CLASSES],
        }


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_of_the_golden_figures_is_met(
    name: str, outputs: dict[str, Tensor], carried: dict[str, Tensor]
) -> None:
    values = outputs[name] if name in ROUNDED else sample(outputs[name])
    assert_close(name, values, carried[name], float(carried[f"{name}.std"]))


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_figures_are_met(name: str, outputs: dict[str, Tensor], golden: dict[str, Tensor]) -> None:
    assert_close(name, outputs[name], golden[name], float(golden[name].double().std(correction=0)))


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "golden" / "image.safetensors")


def test_every_golden_tensor_is_checked(golden: dict[str, Tensor], carried: dict[str, Tensor]) -> None:
    assert set(golden) == {*NAMES, INPUT}
    assert torch.equal(carried[INPUT], golden[INPUT])


def test_names_and_shapes_are_the_published_ones(model: Model, shared: Path) -> None:
    published = json.loads((shared / "golden" / "image_parameters.json").read_text())
    assert published_shapes(*model) == {name: tuple(shape) for name, shape in published.items()}


def test_sizes_are_the_published_ones(model: Model) -> None:
    codec, heads = model
    assert sum(p.numel() for p in codec.parameters()) == 108_833_411
    assert sum(p.numel() for p in codec.autoencoder.parameters()) == pytest.approx(76.1e6, rel=1e-3)
    assert sum(p.numel() for head in heads.values() for p in head.parameters()) == pytest.approx(55.2e6, rel=1e-3)


def test_golden_parameters_and_picture_follow_the_reference_formulas(shared: Path) -> None:
    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    for name, shape in {
        "q_enc": (4, 8, 1, 1),
        "q_dec": (4, 8, 1, 1),
        "z_vq.embedding.weight": (16, 8),
        "code_pred_loss.position_emb": (16, 8),
        "hyper_enc.1.weight": (8, 4, 3, 3),
        "vqgan.encoder.blocks.1.norm1.weight": (8,),
        "hyper_enc.1.bias": (8,),
    }.items():
        assert np.array_equal(golden_parameter(name, shape, 3).numpy(), fill.parameter(name, shape, 3))
    assert np.array_equal(golden_picture(20, 30, 5, frame=2)[0].numpy(), fill.picture(20, 30, 5, 2))
