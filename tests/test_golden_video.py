"""The base video model against outputs of the published one, for each conditional frame given the frame before.

`expected/golden_video.safetensors` holds the inputs in full (`frame0.latent_hat`, `y`), the indices, and up to 512
evenly spaced values of what else the transform computes. It copies published figures, so this project's own outputs
must never regenerate it. The slow test runs the whole pair of models from pictures to pictures.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from glc_train.codecs import GOP
from glc_train.transform import QuantiseStep, VideoTransform, published_gaussian_bits
from tests.golden_model import golden_picture
from tests.golden_video_model import (
    FRAMES,
    QUALITY,
    golden_video_codec,
    golden_video_transform,
    published_video_shapes,
)

SAMPLES = 512
SMOOTH = ("context", "weight_map", "z")  # before any rounding: every value within 1e-4 of the standard deviation
DECODED = ("y_hat", "latent_hat")  # what follows a rounding moves with it: root mean square within 1e-3
BITS = ("bits_y", "bits_z")
PREDICTED_FRAMES = range(1, FRAMES)
NAMES = [f"frame{t}.{name}" for t in PREDICTED_FRAMES for name in (*SMOOTH, "z_indices", *DECODED, *BITS)]


def sample(values: Tensor) -> Tensor:
    """Up to SAMPLES evenly spaced values, flat."""
    flat = values.flatten()
    return flat[:: math.ceil(flat.numel() / SAMPLES)].contiguous()


def assert_close(name: str, ours: Tensor, golden: Tensor, deviation: float) -> None:
    """Compares values; `deviation`: standard deviation of the whole golden tensor."""
    kind = name.split(".")[1]
    assert ours.shape == golden.shape
    error = (ours.double() - golden.double()).abs()
    if kind in (*SMOOTH, "y", "x"):
        assert float(error.max()) <= 1e-4 * deviation
    elif kind == "z_indices":  # 16 of them: none may differ
        assert torch.equal(ours.long(), golden.long())
    elif kind in (*DECODED, "x_hat"):
        assert float(error.square().mean().sqrt()) <= 1e-3 * deviation
    else:
        assert float((error / golden.double()).max()) <= 1e-3


@pytest.fixture(scope="module")
def carried(repository: Path) -> dict[str, Tensor]:
    return load_file(repository / "tests" / "expected" / "golden_video.safetensors")


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "golden" / "video.safetensors")


@pytest.fixture(scope="module")
def transform() -> VideoTransform:
    return golden_video_transform()


@pytest.fixture(scope="module")
def outputs(transform: VideoTransform, carried: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the transform makes of the golden y, each frame given our own decoded latent of the frame before."""
    found: dict[str, Tensor] = {}
    previous = carried["frame0.latent_hat"]
    decoder = transform.decoder
    with torch.inference_mode():
        for t in PREDICTED_FRAMES:
            given = decoder.context_of(previous, GOP().adaptor(t, has_y=t > 1))
            y = carried[f"frame{t}.y"]
            z = transform.tokenizer(y, given.context, given.weight_map)
            quantised = transform.z_quantiser(z)
            prior = decoder.parameters_of(quantised.vectors, given)
            step = QuantiseStep(y / prior.step)
            y_hat = decoder.decode_y(prior, step)
            previous = decoder(y_hat, given, torch.tensor([QUALITY]))
            values = {
                "context": given.context,
                "weight_map": given.weight_map,
                "z": z,
                "z_indices": quantised.indices,
                "y_hat": y_hat,
                "latent_hat": previous,
                "bits_y": published_gaussian_bits(step.symbols, step.scales).double().sum().reshape(1),
                "bits_z": transform.z_bits(quantised.indices).sum().reshape(1),
            }
            found |= {f"frame{t}.{name}": value for name, value in values.items()}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_of_the_golden_figures_is_met(
    name: str, outputs: dict[str, Tensor], carried: dict[str, Tensor]
) -> None:
    assert_close(name, sample(outputs[name]), carried[name], float(carried[f"{name}.std"]))


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_figures_are_met(name: str, outputs: dict[str, Tensor], golden: dict[str, Tensor]) -> None:
    assert_close(name, outputs[name], golden[name], float(golden[name].double().std(correction=0)))


def test_what_is_carried_is_golden(golden: dict[str, Tensor], carried: dict[str, Tensor]) -> None:
    for name in NAMES:
        assert torch.equal(carried[name], sample(golden[name]))
    for name in ("frame0.latent_hat", *(f"frame{t}.y" for t in PREDICTED_FRAMES)):
        assert torch.equal(carried[name], golden[name])


def test_names_and_shapes_are_the_published_ones(transform: VideoTransform, shared: Path) -> None:
    published = json.loads((shared / "golden" / "video_parameters.json").read_text())
    holder = torch.nn.ModuleDict({"transform": transform})
    expected = {name: tuple(shape) for name, shape in published.items() if not name.startswith("vqgan.")}
    assert published_video_shapes(holder) == expected


def test_the_size_is_the_published_one(transform: VideoTransform) -> None:
    # 125,313,283 in all, less the auto-encoder that the published file holds too.
    assert sum(p.numel() for p in transform.parameters()) == 125_313_283 - 76_073_859


@pytest.mark.slow
def test_the_pair_of_models_reproduces_pictures_from_pictures(golden: dict[str, Tensor]) -> None:
    codec = golden_video_codec()
    clip = torch.stack([golden_picture(frame=t) for t in range(FRAMES)], dim=1)
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        outputs = codec(clip, QUALITY)
    for t, out in enumerate(outputs):
        bits_y = published_gaussian_bits(out.symbols, out.scales).double().sum().reshape(1)
        values = {
            "x": clip[:, t],
            "latent_hat": out.latent_hat,
            "x_hat": out.x_hat if out.intra else out.x_hat.clamp(-1, 1),  # golden intra pictures are not clamped
            "bits": bits_y + out.bits_z,
        }
        if not out.intra:
            given = out.frame_context
            assert given is not None
            values |= {"context": given.context, "weight_map": given.weight_map, "y": out.y, "z": out.z}
            values |= {"z_indices": out.z_indices, "y_hat": out.y_hat, "bits_y": bits_y, "bits_z": out.bits_z}
        found |= {f"frame{t}.{name}": value for name, value in values.items()}
    assert found.keys() == golden.keys()
    for name, value in found.items():
        assert_close(name, value, golden[name], float(golden[name].double().std(correction=0)))
