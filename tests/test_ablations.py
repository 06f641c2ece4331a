"""Variants of the codec that the paper's ablations compare: each trains, writes files, and is exported and loaded."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from benchmarks.measures import model_config
from glc_train.bitstream import FormatError
from glc_train.codecs import ImageCodec
from glc_train.data import render_picture
from glc_train.pixels import picture_to_tensor
from glc_train.transform import FactorisedGaussian, ImageTransform, IndexTransform
from glc_train.weights import WeightsError, build_codec, load_codec, save_codec

Config = dict[str, Any]


def variant(name: str) -> Config:
    config = model_config()
    match name:
        case "no_context":
            config["transform"] |= {"context": "none", "channels": 30}  # no groups of four are needed
        case "factorised":
            config["transform"] |= {"hyper_prior": "factorised"}
        case "both":
            config["transform"] |= {"hyper_prior": "factorised", "context": "none"}
        case "indices":
            config["transform"] = None
        case "finite_scalar_indices":
            config["transform"] = None
            config["autoencoder"] |= {"fsq_levels": [8, 8, 4]}
    return config


VARIANTS = ["no_context", "factorised", "both", "indices", "finite_scalar_indices"]
FIXED_COST = 16  # bytes beyond the ideal code length: header, checks, and the end of the entropy code


def codec_of(config: Config) -> ImageCodec:
    """Random weights from a fixed seed, scaled so that there is something to code."""
    torch.manual_seed(0)
    codec = build_codec(config).eval().requires_grad_(False)
    codec.transform.z_counts.copy_(torch.randint(1, 50, codec.transform.z_counts.shape))
    if isinstance(codec.transform, ImageTransform):
        codec.transform.analysis.gain.mul_(6.0)
        if isinstance(codec.transform.z_quantiser, FactorisedGaussian):
            codec.transform.get_parameter("hyper_analysis.3.weight").mul_(3.0)
            codec.transform.z_quantiser.mean.uniform_(-2, 2)
            codec.transform.z_quantiser.scale_units.uniform_(0.05, 0.2)
    else:
        codec.autoencoder.get_parameter("encoder.quant_conv.weight").mul_(20.0)
    return codec


@pytest.fixture(scope="module", params=VARIANTS)
def named(request: pytest.FixtureRequest) -> tuple[Config, ImageCodec]:
    config = variant(request.param)
    return config, codec_of(config)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (63, 130)])
def test_files(named: tuple[Config, ImageCodec], height: int, width: int) -> None:
    _, codec = named
    picture = render_picture(height, width, 3)
    quality = codec.quality_levels - 1
    result = codec.compress_with_report(picture, quality)
    header, latent = codec.decompress_latent(result.data)
    assert (header.height, header.width, header.quality) == (height, width, quality)
    assert codec.decompress(result.data).shape == picture.shape
    # Less than the ideal is possible: zero bytes at the end are not written, and signs of escaped symbols come last.
    assert abs(len(result.data) - result.ideal_bits / 8) <= FIXED_COST
    out = codec(picture_to_tensor(picture), quality)
    assert codec.quality_levels == 1 or int(out.symbols.abs().max()) > 0
    error = (latent.float() - out.latent_hat).square().mean().sqrt() / out.latent_hat.std()
    assert float(error) < 0.1
    assert 0 < result.estimated_bits_z < 1.2 * float(out.bits_z) + 1  # tables may adapt, which the model does not
    assert float(out.bits_y) == pytest.approx(result.estimated_bits_y, rel=0.02, abs=16)
    assert result.ideal_bits == pytest.approx(result.estimated_bits, rel=0.05, abs=64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(codec.decompress_latent(result.data)[1], latent)
    finally:
        torch.set_num_threads(threads)


def test_export_and_load(named: tuple[Config, ImageCodec], tmp_path: Path) -> None:
    config, codec = named
    picture = render_picture(70, 64, 5)
    file = codec.compress(picture, 0)
    save_codec(codec, config, tmp_path / "weights.safetensors")
    loaded = load_codec(tmp_path / "weights.safetensors")
    assert loaded.fingerprint == codec.fingerprint
    assert loaded.compress(picture, 0) == file
    assert np.array_equal(loaded.decompress(file), codec.decompress(file))


def test_files_of_another_variant_are_refused() -> None:
    files = {name: codec_of(variant(name)).compress(render_picture(64, 64, 1), 0) for name in VARIANTS}
    plain = codec_of(model_config())
    for name, file in files.items():
        with pytest.raises(FormatError, match="fingerprint"):
            plain.decompress(file)
        assert file != plain.compress(render_picture(64, 64, 1), 0), name


def test_without_context_every_symbol_has_the_parameters_of_the_hyper_prior() -> None:
    transform = ImageTransform(12, 6, 4, 10, 3, 1, context="none")
    assert not [name for name in transform.state_dict() if ".context." in name]
    out = transform(torch.randn(2, 12, 8, 8), torch.tensor([0, 2]))
    assert torch.equal(out.scales, out.prior.scale)
    assert torch.equal(out.symbols, torch.round(out.y / out.prior.step - out.prior.mean))
    assert torch.equal(out.y_hat, (out.symbols + out.prior.mean) * out.prior.step)


def test_factorised_bits_against_scipy() -> None:
    prior = FactorisedGaussian(3).requires_grad_(False)
    prior.mean.copy_(torch.tensor([0.0, -1.25, 40.0]))
    prior.scale_units.copy_(torch.tensor([0.5, 2.0, 8.0]) / 16)
    z = prior.mean.view(1, 3, 1, 1) + torch.tensor([-2.4, 0.3, 1.6]).view(1, 1, 3, 1)
    quantised = prior(z)
    integers = np.array([-2, 0, 2]).reshape(1, 1, 3, 1)
    assert np.array_equal(quantised.indices.numpy(), np.broadcast_to(integers, (1, 3, 3, 1)))
    assert torch.allclose(quantised.vectors, prior.lookup(quantised.indices))
    sigma = np.array([0.5, 2.0, 8.0]).reshape(1, 3, 1, 1)
    expected = -np.log2(norm.cdf((integers + 0.5) / sigma) - norm.cdf((integers - 0.5) / sigma))
    assert prior.bits(z).numpy() == pytest.approx(expected, rel=1e-3)


def test_the_factorised_prior_learns_the_distribution_of_z() -> None:
    prior = FactorisedGaussian(2)
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.02)
    goal_mean, goal_scale = torch.tensor([3.0, -0.5]), torch.tensor([2.0, 0.7])
    for _ in range(400):
        z = goal_mean.view(2, 1, 1) + goal_scale.view(2, 1, 1) * torch.randn(4, 2, 8, 8)
        loss = prior.bits(z, torch.rand_like(z) - 0.5).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.allclose(prior.mean, goal_mean, atol=0.2)
    # With uniform noise of variance 1/12 the best Gaussian over unit bins is about as wide as the data.
    assert torch.allclose(prior.scale, goal_scale, rtol=0.15)


def test_the_rate_of_the_factorised_prior_has_gradients() -> None:
    transform = ImageTransform(12, 8, 6, 10, 3, 1, 1, hyper_prior="factorised")
    latent, quality = torch.randn(2, 12, 8, 8), torch.tensor([0, 1])
    noise, z_noise = torch.rand(2, 8, 8, 8) - 0.5, torch.rand(2, 6, 2, 2) - 0.5
    transform(latent, quality, "mixed", noise, z_noise).bits_z.sum().backward()
    for name in ("z_quantiser.mean", "z_quantiser.scale_units", "hyper_analysis.3.weight", "analysis.gain"):
        gradient = transform.get_parameter(name).grad
        assert gradient is not None, name
        assert float(gradient.abs().sum()) > 0, name
    with pytest.raises(ValueError, match="z_noise"):
        transform(latent, quality, "mixed", noise)


def test_integers_far_out_come_back() -> None:
    codec = codec_of(variant("factorised"))
    codec.transform.get_parameter("hyper_analysis.3.weight").mul_(2000.0)
    picture = render_picture(64, 128, 2)
    result = codec.compress_with_report(picture, 1)
    quantiser = codec.transform.z_quantiser
    assert isinstance(quantiser, FactorisedGaussian)
    out = codec(picture_to_tensor(picture), 1)
    assert int(out.z_indices.abs().max()) > 5 * float(quantiser.scale.max())  # escapes are needed
    assert codec.decompress(result.data).shape == picture.shape


def test_diverged_weights_are_named() -> None:
    codec = codec_of(variant("factorised"))
    codec.transform.get_parameter("hyper_analysis.3.bias").fill_(float("nan"))
    with pytest.raises(ValueError, match="damaged or diverged"):
        codec.compress(render_picture(64, 64, 0), 0)


def test_indices_cost_what_the_prior_says() -> None:
    codec = codec_of(variant("indices"))
    x = picture_to_tensor(render_picture(64, 128, 4))
    codec.transform.z_counts.fill_(1)
    out = codec(x, 0)
    positions = out.z_indices.numel()
    assert positions == 4 * 8
    assert float(out.bits_z) == pytest.approx(8 * positions)  # 256 codes
    assert float(out.bits_y) == 0
    codec.transform.z_counts.scatter_add_(0, out.z_indices.flatten(), torch.full((positions,), 100))
    assert float(codec(x, 0).bits_z) < 7 * positions
    expected = codec.autoencoder.quantiser.lookup(out.z_indices)
    assert torch.equal(out.latent_hat, out.latent + (expected - out.latent))


def test_index_coding_owns_no_second_codebook() -> None:
    codec = codec_of(variant("indices"))
    assert list(codec.transform.state_dict()) == ["z_counts"]
    clone = copy.deepcopy(codec)
    assert isinstance(clone.transform, IndexTransform)
    assert clone.transform.z_quantiser is clone.autoencoder.quantiser
    assert clone.transform.z_quantiser is not codec.autoencoder.quantiser
    with pytest.raises(ValueError, match="quality must be 0 to 0, not 1"):
        codec.compress(render_picture(16, 16, 0), 1)
    file = codec.compress(render_picture(32, 32, 0), 0)
    clone.autoencoder.get_parameter("quantiser.embedding.weight").add_(1.0)
    with pytest.raises(FormatError, match="fingerprint"):
        clone.decompress(file)


@pytest.mark.parametrize(("option", "value"), [("context", "raster"), ("hyper_prior", "laplace")])
def test_unknown_options(option: str, value: str) -> None:
    config = model_config()
    config["transform"][option] = value
    with pytest.raises(WeightsError, match=rf"transform\.{option} must be \w+ or \w+, not '{value}'"):
        build_codec(config)


def test_face_model() -> None:
    with torch.device("meta"):
        codec = build_codec(model_config("face"))
    assert isinstance(codec.transform, ImageTransform)
    codebook = codec.transform.hyper_codebook
    assert codebook is not None
    assert (codec.autoencoder.factor, codec.multiple) == (32, 128)
    assert (codec.autoencoder.quantiser.codes, codebook.codes) == (1024, 1024)
