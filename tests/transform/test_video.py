from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.measures import model_config
from glc_train.layers import calibrate, exact_copy, snap
from glc_train.transform import (
    FrameDecoder,
    QuantiseStep,
    VideoTransform,
    ZeroStep,
    checkerboard_masks,
    gaussian_bits,
)
from glc_train.transform.video_modules import HyperTokenizer, InverseTokenizer

SMALL: dict[str, Any] = {
    "latent_channels": 12, "channels": 8, "token_channels": 12, "tokens": 4, "heads": 2, "codes": 10,
    "quality_levels": 3, "depth": 1, "refine_depth": 1, "context_depth": 2, "condition_channels": 4, "adaptors": 2,
}  # fmt: skip


def latents(batch: int = 2, channels: int = 12, height: int = 5, width: int = 7) -> tuple[Tensor, Tensor]:
    """A latent and the decoded one before it, of a size that no number of strides divides."""
    previous = torch.randn(batch, channels, height, width)
    return previous + 0.3 * torch.randn_like(previous), previous


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"latent_channels": 7}, {"channels": 16}, {"token_channels": 4}, {"tokens": 1}, {"heads": 4}, {"codes": 1},
        {"quality_levels": 1}, {"quality_levels": 64}, {"depth": 3}, {"refine_depth": 0}, {"context_depth": 4},
        {"condition_channels": 1}, {"adaptors": 1},
    ],
)  # fmt: skip
def test_every_argument_works_and_gradients_flow(changed: dict[str, Any]) -> None:
    arguments = SMALL | changed
    transform = VideoTransform(**arguments)
    latent, previous = latents(channels=arguments["latent_channels"])
    quality = torch.tensor([0, arguments["quality_levels"] - 1])
    loss = torch.zeros(())
    for adaptor in (None, *range(arguments["adaptors"])):
        out = transform(latent, previous, adaptor, quality, "ste")
        assert out.y.shape == out.symbols.shape == out.scales.shape == (2, arguments["channels"], 5, 7)
        assert out.z.shape == out.z_hat.shape == (2, arguments["token_channels"], arguments["tokens"], 1)
        assert out.z_indices.shape == (2, arguments["tokens"], 1)
        assert out.frame_context.context.shape == out.latent_hat.shape == latent.shape
        assert out.frame_context.weight_map.shape == (2, arguments["tokens"] * arguments["heads"], 5, 7)
        assert out.frame_context.chained == (adaptor is not None)
        loss = loss + out.latent_hat.square().mean() + out.bits_y.mean() + out.z_hat.square().mean()
    loss.backward()
    assert [name for name, p in transform.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quality_levels": 65}, "quality_levels must be 1 to 64, not 65"),
        ({"channels": 10, "heads": 4}, "channels must be a multiple of heads=4, not 10"),
        ({"token_channels": 9}, "token_channels must be a multiple of heads=2, not 9"),
        ({"channels": 9, "token_channels": 9, "heads": 3}, "channels must be even, not 9"),
        ({"context_depth": 1}, "context_depth must be at least 2, not 1"),
        ({"tokens": 3}, "tokens must be a power of two from 1 to 4096, not 3"),
        ({"tokens": 0}, "tokens must be a power of two from 1 to 4096, not 0"),
        ({"tokens": 8192}, "tokens must be a power of two from 1 to 4096, not 8192"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoTransform(**(SMALL | changed))


def test_depths_add_blocks() -> None:
    deep = VideoTransform(**(SMALL | {"depth": 3, "refine_depth": 5, "context_depth": 4}))
    assert len(deep.analysis.first) == len(deep.decoder.synthesis.second) == 3
    assert len(deep.decoder.context_model.refine) == 5 + 1
    assert len(deep.decoder.spatial_context.layers) == 4


def test_pictures_of_a_batch_are_independent() -> None:
    transform, (latent, previous) = VideoTransform(**SMALL).eval(), latents(3)
    quality = torch.tensor([2, 0, 1])
    with torch.inference_mode():
        together = transform(latent, previous, 1, quality)
        for i in range(3):
            one = slice(i, i + 1)
            alone = transform(latent[one], previous[one], 1, quality[one])
            assert torch.allclose(alone.latent_hat[0], together.latent_hat[i], atol=1e-4)
            assert float(alone.bits_y[0]) == pytest.approx(float(together.bits_y[i]), rel=1e-4)


def test_what_is_asked_for_changes_the_frame() -> None:
    transform, (latent, previous) = VideoTransform(**SMALL).eval(), latents()
    with torch.inference_mode():
        base = transform(latent, previous, 0, torch.tensor([0, 0])).latent_hat
        for arguments in (
            (latent, previous, 1, torch.tensor([0, 0])),
            (latent, previous, None, torch.tensor([0, 0])),
            (latent, previous, 0, torch.tensor([2, 2])),
            (latent, previous + 1, 0, torch.tensor([0, 0])),
        ):
            assert not torch.allclose(transform(*arguments).latent_hat, base, atol=1e-3)


def test_bits() -> None:
    latent, previous = latents()
    out = VideoTransform(**SMALL)(latent, previous, None, torch.tensor([0, 1]))
    assert torch.allclose(out.bits_y, gaussian_bits(out.symbols, out.scales).sum((1, 2, 3)))
    assert torch.equal(out.symbols, out.symbols.round())
    assert torch.allclose(out.bits_z, torch.full((2,), 4 * np.log2(10)).float())  # four indices of ten codes


def test_noise_reaches_the_symbols() -> None:
    transform, (latent, previous) = VideoTransform(**SMALL), latents()
    noise = torch.rand(2, 8, 5, 7) - 0.5
    hard = transform(latent, previous, 0, torch.tensor([0, 1]))
    noisy = transform(latent, previous, 0, torch.tensor([0, 1]), "mixed", noise)
    assert torch.equal(hard.symbols, noisy.symbols.round())
    assert torch.equal(hard.bits_y, noisy.bits_y)
    assert not torch.allclose(hard.priced_bits_y, noisy.priced_bits_y)


# ------------------------------------------------------------------ tokens, against sums written out


def test_tokens_are_weighted_means_of_their_head() -> None:
    torch.manual_seed(1)
    tokenizer = HyperTokenizer(8, 12, 4, token_channels=12, tokens=3, heads=2)
    seen: dict[str, Tensor] = {}
    tokenizer.values.register_forward_hook(lambda _m, _i, out: seen.update(values=out[0]))
    tokenizer.enhancement.register_forward_hook(lambda _m, _i, out: seen.update(weights=out[0].sigmoid()))
    z = tokenizer(torch.randn(1, 8, 4, 5), torch.randn(1, 12, 4, 5), torch.rand(1, 6, 4, 5))
    for k in range(3):
        token = torch.cat(
            [(seen["values"][6 * n : 6 * n + 6] * seen["weights"][2 * k + n]).mean((1, 2)) for n in range(2)]
        )
        assert torch.allclose(z[0, :, k, 0], tokenizer.out_proj(token), atol=1e-5)


def test_tokens_are_spread_by_the_weight_map() -> None:
    inverse = InverseTokenizer(12, 8, heads=2)
    seen: list[Tensor] = []
    inverse.out_proj.register_forward_pre_hook(lambda _m, args: seen.append(args[0][0]))
    tokens, weights = torch.randn(1, 12, 4, 1), torch.rand(1, 8, 4, 5)
    inverse(tokens, weights)
    values = inverse.proj(tokens)[0, :, :, 0]
    for channel in range(8):
        head = channel // 4
        expected = sum(values[channel, k] * weights[0, 2 * k + head] for k in range(4)) / 4
        assert torch.allclose(seen[0][channel], expected, atol=1e-5)


def test_the_second_pass_sees_the_first() -> None:
    decoder, (_, previous) = VideoTransform(**SMALL).decoder, latents()
    prior = decoder.parameters_of(torch.randn(2, 12, 4, 1), decoder.context_of(previous, 0))
    first = checkerboard_masks(8, 5, 7)[0]
    seen: list[Tensor] = []
    decoder.spatial_context.layers.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    y_hat = decoder.decode_y(prior, ZeroStep())
    assert len(seen) == 1
    assert torch.allclose(seen[0][:, :8], prior.mean * first)
    assert torch.equal(seen[0][:, 8:], prior.raw)
    assert torch.allclose(y_hat * first, prior.mean * prior.step * first)


# ------------------------------------------------------------------ the decoder in exact arithmetic


@pytest.fixture(scope="module")
def exact() -> FrameDecoder:
    torch.manual_seed(2)
    decoder = exact_copy(VideoTransform(**(SMALL | {"channels": 32, "token_channels": 32})).decoder)
    assert isinstance(decoder, FrameDecoder)

    def run() -> None:
        previous, z_hat, _, quality = exact_inputs()
        for adaptor in (None, 0, 1):
            given = decoder.context_of(previous, adaptor)
            decoder(decoder.decode_y(decoder.parameters_of(z_hat, given), ZeroStep()), given, quality)

    calibrate(decoder, run)
    return decoder


def exact_inputs(batch: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    previous = snap(torch.randn(batch, 12, 9, 11))
    z_hat, y = torch.randn(batch, 32, 4, 1), 3 * torch.randn(batch, 32, 9, 11)
    return previous, z_hat, y, torch.arange(batch) % 3


def frame_of(exact: FrameDecoder, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    previous, z_hat, y, quality = inputs
    given = exact.context_of(previous, 0)
    prior = exact.parameters_of(z_hat, given)
    step = QuantiseStep(y / prior.step)
    latent = exact(exact.decode_y(prior, step), given, quality)
    return given.context, given.temporal, given.weight_map, prior.raw, step.symbols, step.scales, latent


def test_batches_and_threads_do_not_matter_to_the_exact_decoder(exact: FrameDecoder) -> None:
    inputs = exact_inputs()
    together = frame_of(exact, inputs)
    for i in range(3):
        alone = frame_of(exact, tuple(t[i : i + 1] for t in inputs))
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, together, strict=True))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(torch.equal(a, b) for a, b in zip(frame_of(exact, inputs), together, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_the_order_of_tokens_does_not_matter_to_the_exact_decoder(exact: FrameDecoder) -> None:
    order, inverse = torch.randperm(16), exact.inverse_tokenizer
    tokens = torch.randn(1, 32, 16, 1)
    weights = torch.randint(0, 257, (1, 16, 2, 9, 11)) / 256
    spread = inverse(tokens, weights.flatten(1, 2))
    assert torch.equal(spread, inverse(tokens[:, :, order], weights[:, order].flatten(1, 2)))


def test_what_the_exact_decoder_hands_on_lies_on_the_grid(exact: FrameDecoder) -> None:
    context, temporal, weight_map, raw, _, scales, latent = frame_of(exact, exact_inputs())
    for values in (context, temporal, weight_map, raw, scales, latent):
        assert values.dtype == torch.float32
        assert torch.equal(values, snap(values))
    assert 0 <= float(weight_map.min()) <= float(weight_map.max()) <= 1


class Replay:
    """Gives back symbols that were coded before: what a decoder does."""

    def __init__(self, symbols: Tensor) -> None:
        self.symbols = symbols

    def __call__(self, scale: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        return (self.symbols + mean) * mask


def test_a_chain_of_frames_decodes_to_the_same_bits(exact: FrameDecoder) -> None:
    first, z_hat, y, quality = exact_inputs(1)
    written = read = first
    for adaptor in (None, 1, 0):
        given = exact.context_of(written, adaptor)
        prior = exact.parameters_of(z_hat, given)
        step = QuantiseStep(y / prior.step)
        written = exact(exact.decode_y(prior, step), given, quality)
        given = exact.context_of(read, adaptor)
        read = exact(exact.decode_y(exact.parameters_of(z_hat, given), Replay(step.symbols)), given, quality)
        assert torch.equal(written, read)


def test_the_exact_decoder_is_close_to_the_trained_one() -> None:
    decoder = VideoTransform(**SMALL).decoder.eval()
    previous, z_hat = torch.randn(2, 12, 5, 7), torch.randn(2, 12, 4, 1)
    exact = exact_copy(decoder)
    assert isinstance(exact, FrameDecoder)

    def latent_of(network: FrameDecoder, adaptor: int | None = None) -> Tensor:
        given = network.context_of(previous, adaptor)
        y_hat = network.decode_y(network.parameters_of(z_hat, given), ZeroStep())
        latent: Tensor = network(y_hat, given, torch.tensor([0, 2]))
        return latent

    with torch.inference_mode():
        calibrate(exact, lambda: [latent_of(exact, adaptor) for adaptor in (None, *range(SMALL["adaptors"]))])
        assert torch.allclose(latent_of(decoder), latent_of(exact), atol=2e-2)


# ------------------------------------------------------------------ configurations


@pytest.mark.parametrize("size", ["base", "small", "tiny"])
def test_configurations_fit_the_image_model_of_their_size(size: str) -> None:
    image = model_config(size)
    video = model_config(f"video/{size}")
    assert video.pop("_target_") == "glc_train.transform.VideoTransform"
    with torch.device("meta"):
        transform = VideoTransform(**video)
    assert transform.latent_channels == image["autoencoder"]["latent_channels"]
    assert transform.quality_levels == 64


def test_the_base_configuration_is_the_published_one() -> None:
    config = model_config("video/base")
    config.pop("_target_")
    with torch.device("meta"):
        ours, published = VideoTransform(**config), VideoTransform()
    shapes = [{name: p.shape for name, p in transform.named_parameters()} for transform in (ours, published)]
    assert shapes[0] == shapes[1]
