from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from glc_train.transform import (
    ImageTransform,
    QuantiseStep,
    Rounding,
    ZeroStep,
    checkerboard_masks,
    choose_symbols,
    four_part_masks,
    gaussian_bits,
    published_gaussian_bits,
    run_passes,
    split_parameters,
)

SMALL: dict[str, Any] = {
    "latent_channels": 12, "channels": 8, "hyper_channels": 6, "codes": 10, "quality_levels": 3, "depth": 1,
    "context_depth": 1,
}  # fmt: skip

# Positions (row mod 2, column mod 2) of groups 0 to 3 in passes 0 to 3, as the published table has them.
FOUR_PART = [
    [(0, 0), (0, 1), (1, 0), (1, 1)],
    [(1, 1), (1, 0), (0, 1), (0, 0)],
    [(1, 0), (1, 1), (0, 0), (0, 1)],
    [(0, 1), (0, 0), (1, 1), (1, 0)],
]


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_partitions_hold_every_element_once(channels: int, height: int, width: int) -> None:
    for masks in (four_part_masks(4 * channels, height, width), checkerboard_masks(2 * channels, height, width)):
        assert masks.dtype == torch.bool
        assert torch.equal(masks.sum(0), torch.ones_like(masks[0], dtype=torch.int64))


def test_four_part_table() -> None:
    masks = four_part_masks(8, 4, 6)
    for k, channel, row, column in product(range(4), range(8), range(4), range(6)):
        assert bool(masks[k, channel, row, column]) == (FOUR_PART[k][channel // 2] == (row % 2, column % 2))


def test_checkerboard_table() -> None:
    masks = checkerboard_masks(4, 3, 5)
    for k, channel, row, column in product(range(2), range(4), range(3), range(5)):
        expected_pass = (row + column) % 2 if channel < 2 else 1 - (row + column) % 2
        assert bool(masks[k, channel, row, column]) == (expected_pass == k)


def test_partitions_refuse_channels_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="multiples of 4, not 6"):
        four_part_masks(6, 4, 4)
    with pytest.raises(ValueError, match="even number of channels, not 3"):
        checkerboard_masks(3, 4, 4)


def test_gaussian_bits_against_scipy() -> None:
    symbols, scales = np.meshgrid(np.arange(-12, 13), [0.05, 0.2, 0.5, 1.0, 3.0, 20.0])
    probability = norm.cdf((symbols + 0.5) / scales) - norm.cdf((symbols - 0.5) / scales)
    ours = gaussian_bits(torch.from_numpy(symbols), torch.from_numpy(scales)).numpy()
    likely = probability > 2.0**-22
    assert ours[likely] == pytest.approx(-np.log2(probability[likely]), abs=2e-4)
    assert np.all(ours[probability < 2.0**-25] == 24.0)  # no symbol costs more under the coder's tables
    assert np.all(ours >= 0)


def test_gaussian_bits_bound_the_scale_and_can_raise_it() -> None:
    scales = torch.tensor([-3.0, 0.0, 0.01, 0.05], requires_grad=True)
    symbols = torch.tensor([1.0, 1.0, 0.0, 0.0])
    bits = gaussian_bits(symbols, scales)
    assert torch.equal(bits, gaussian_bits(symbols, torch.full((4,), 0.05)))
    scale = torch.tensor([0.04, 0.3], requires_grad=True)
    (gradient,) = torch.autograd.grad(gaussian_bits(torch.tensor([0.6, 1.0]), scale).sum(), scale)
    assert torch.all(gradient < 0)  # a larger scale would cost less, even below the bound


def test_published_bits() -> None:
    symbols = torch.tensor([0.0, 1.0, -2.0, 9.0, 0.0])
    scales = torch.tensor([1.0, 0.5, 1.5, 0.1, -1.0])
    cdf = norm(scale=scales.clamp_min(1e-5).numpy()).cdf
    expected = np.maximum(-np.log2(cdf(symbols + 0.5) - cdf(symbols - 0.5) + 1e-5), 0)
    assert published_gaussian_bits(symbols, scales).numpy() == pytest.approx(expected, abs=1e-4)
    assert float(published_gaussian_bits(symbols, scales)[3]) == pytest.approx(16.61, abs=0.01)


def passes(step: Any, count: int = 4) -> tuple[Tensor, list[Tensor]]:
    """Runs passes whose mean is 0.3·k and whose scale is k + 1; also returns what each pass saw."""
    shape, seen = (2, 4, 4, 6), []

    def next_parameters(k: int, decoded: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(decoded)
        return torch.full(shape, k + 1.0), torch.full(shape, 0.3 * k)

    masks = four_part_masks(4, 4, 6)[:count]
    return run_passes(masks, torch.ones(shape), torch.zeros(shape), next_parameters, step), seen


def test_passes_round_around_the_mean_of_their_pass() -> None:
    y = torch.randn(2, 4, 4, 6) * 3
    step = QuantiseStep(y)
    decoded, seen = passes(step)
    masks = four_part_masks(4, 4, 6)
    numbers = torch.arange(4.0).view(4, 1, 1, 1)
    mean = (0.3 * numbers * masks).sum(0)
    assert torch.equal(step.symbols, torch.round(y - mean))
    assert torch.allclose(decoded, step.symbols + mean)
    assert torch.equal(step.scales, ((numbers + 1) * masks).sum(0).expand_as(y))
    # Pass k sees what passes before it decoded, and zeros elsewhere.
    for k, before in enumerate(seen, start=1):
        assert torch.equal(before, decoded * masks[:k].any(0))


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0.06, 20))
def test_optimised_symbols_cost_least_of_two(seed: int, rdoq: float, scale: float) -> None:
    residual = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 2 * scale
    scales = torch.full_like(residual, scale)
    chosen, nearest = choose_symbols(residual, scales, rdoq), torch.round(residual)
    smaller = nearest - nearest.sign()
    assert bool(((chosen == nearest) | (chosen == smaller)).all())

    def cost(symbols: Tensor) -> Tensor:
        return (residual - symbols).square() + rdoq * gaussian_bits(symbols, scales)

    assert bool((cost(chosen) <= torch.minimum(cost(nearest), cost(smaller)) + 1e-3).all())
    if rdoq == 0:
        assert torch.equal(chosen, nearest)


def test_optimised_symbols_by_hand() -> None:
    residual = torch.tensor([0.55, -0.55, 0.95, 0.4, 1.52])
    scale = torch.full_like(residual, 0.3)  # 0 costs 0.14 bits, 1 costs 4.39 and 2 costs 21.7
    assert choose_symbols(residual, scale, 0.05).tolist() == [0, 0, 1, 0, 1]
    assert choose_symbols(residual, scale, 0.0).tolist() == [1, -1, 1, 0, 2]


@pytest.mark.parametrize("rdoq", [-0.1, float("nan"), float("inf"), [0.1, 0.1], [0.1, -0.1, 0.1]])
def test_optimised_quantisation_takes_numbers(rdoq: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"transform\.rdoq must be"):
        ImageTransform(**SMALL, rdoq=rdoq)


def test_zero_step_decodes_means() -> None:
    decoded, _ = passes(ZeroStep())
    means = 0.3 * torch.arange(4.0).view(4, 1, 1, 1) * four_part_masks(4, 4, 6)
    assert torch.allclose(decoded, means.sum(0).expand_as(decoded))


@pytest.mark.parametrize("rounding", ["noise", "mixed"])
def test_noise_goes_where_its_name_says(rounding: Rounding) -> None:
    y, noise = torch.randn(2, 4, 4, 6), torch.rand(2, 4, 4, 6) - 0.5
    step = QuantiseStep(y, rounding, noise)
    decoded, _ = passes(step)
    mean = decoded - step.symbols
    assert torch.allclose(step.rate_symbols, y - mean + noise, atol=1e-6)
    expected = step.rate_symbols if rounding == "noise" else torch.round(y - mean)
    assert torch.allclose(step.symbols, expected, atol=1e-6)
    with pytest.raises(ValueError, match="needs noise"):
        passes(QuantiseStep(y, rounding))


def test_mixed_rounding_prices_noise_and_reports_the_rounded_symbols() -> None:
    y, noise = torch.full((2, 4, 4, 6), 0.4, requires_grad=True), torch.rand(2, 4, 4, 6) - 0.5
    scale, mean = torch.full_like(noise, 0.3), torch.zeros_like(noise)
    mixed, rounded = QuantiseStep(y, "mixed", noise), QuantiseStep(y, "ste")
    for step in (mixed, rounded):
        run_passes(four_part_masks(4, 4, 6), scale, mean, lambda _k, _decoded: (scale, mean), step)
    bits, priced = mixed.bits()
    expected, same = rounded.bits()
    assert torch.equal(bits, expected)
    assert same is expected
    assert not bits.requires_grad
    # At a rounded symbol of zero the rate has no gradient; that of the noisy ones pulls y towards the mean.
    assert torch.autograd.grad(priced.sum(), y, retain_graph=True)[0].mean() > 0.1
    assert torch.autograd.grad(expected.sum(), y)[0].abs().max() == 0


def test_straight_through_rounding_passes_gradients_and_hard_does_not() -> None:
    y = torch.randn(2, 4, 4, 6, requires_grad=True)
    decoded, _ = passes(QuantiseStep(y, "ste"))
    assert torch.equal(torch.autograd.grad(decoded.sum(), y)[0], torch.ones_like(y))
    hard, _ = passes(QuantiseStep(y.detach().requires_grad_(), "hard"))
    assert torch.equal(hard, decoded)


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"latent_channels": 7}, {"channels": 16}, {"hyper_channels": 5}, {"codes": 1}, {"quality_levels": 1},
        {"quality_levels": 64}, {"depth": 3}, {"context_depth": 4},
    ],
)  # fmt: skip
def test_every_argument_works_and_gradients_flow(changed: dict[str, Any]) -> None:
    arguments = SMALL | changed
    transform = ImageTransform(**arguments)
    latent = torch.randn(2, arguments["latent_channels"], 8, 12)
    quality = torch.tensor([0, arguments["quality_levels"] - 1])
    out = transform(latent, quality, "ste")
    assert out.y.shape == out.symbols.shape == out.scales.shape == (2, arguments["channels"], 8, 12)
    assert out.z.shape == (2, arguments["hyper_channels"], 2, 3)
    assert out.latent_hat.shape == latent.shape
    assert out.bits_y.shape == out.bits_z.shape == (2,)
    (out.latent_hat.square().mean() + out.bits_y.mean() + out.z_hat.square().mean()).backward()
    assert [name for name, p in transform.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_depths_add_blocks() -> None:
    base = ImageTransform(**SMALL)
    assert len(ImageTransform(**(SMALL | {"depth": 3})).analysis.first) == 3
    context = ImageTransform(**(SMALL | {"context_depth": 4})).decoder.context
    assert context is not None
    assert len(context.shared) == 4
    assert base.analysis.gain.shape == (3, 8, 1, 1)
    assert base.decoder.synthesis.gain.shape == (3, 12, 1, 1)


@pytest.mark.parametrize("levels", [0, 65])
def test_quality_levels_are_bounded(levels: int) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        ImageTransform(**(SMALL | {"quality_levels": levels}))


def test_pictures_of_a_batch_are_independent() -> None:
    transform, latent = ImageTransform(**SMALL).eval(), torch.randn(3, 12, 8, 8)
    quality = torch.tensor([2, 0, 1])
    with torch.inference_mode():
        together = transform(latent, quality)
        for i in range(3):
            alone = transform(latent[i : i + 1], quality[i : i + 1])
            assert torch.allclose(alone.latent_hat[0], together.latent_hat[i], atol=1e-4)
            assert float(alone.bits_y[0]) == pytest.approx(float(together.bits_y[i]), rel=1e-4)


def test_bits_are_those_of_symbols_and_scales() -> None:
    out = ImageTransform(**SMALL)(torch.randn(2, 12, 8, 8), torch.tensor([0, 1]))
    assert torch.allclose(out.bits_y, gaussian_bits(out.symbols, out.scales).sum((1, 2, 3)))
    assert torch.equal(out.symbols, out.symbols.round())
    assert torch.allclose(out.bits_z, torch.full((2,), 4 * np.log2(10)).float())  # four indices of ten codes


def test_z_bits_follow_the_counts() -> None:
    transform = ImageTransform(**SMALL)
    transform.z_counts.copy_(torch.tensor([8, 4, 2, 1, 1, 0, 0, 0, 0, 0]))
    assert transform.z_bits(torch.tensor([[0, 1, 2], [3, 4, 5]])).tolist() == [[1, 2, 3], [4, 4, 24]]


def test_steps_have_a_lower_bound() -> None:
    raw = torch.randn(1, 12, 2, 2)
    prior = split_parameters(raw)
    assert torch.equal(prior.step, raw[:, :4].clamp_min(0.5))
    assert torch.equal(prior.scale, raw[:, 4:8])
    assert torch.equal(prior.mean, raw[:, 8:])


def test_preview_is_the_decoding_of_zero_symbols() -> None:
    transform, quality = ImageTransform(**SMALL).eval(), torch.tensor([1])
    indices = torch.randint(10, (1, 2, 2))
    preview = transform.preview(indices, quality)
    prior = transform.decoder.parameters_of(transform.z_quantiser.lookup(indices))
    # A target of zero everywhere rounds to other symbols than zero only where means exceed 1/2.
    assert preview.shape == (1, 12, 8, 8)
    assert torch.isfinite(preview).all()
    assert prior.mean.shape == (1, 8, 8, 8)
    assert not torch.equal(preview, transform.preview((indices + 1) % 10, quality))
