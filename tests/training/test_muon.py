"""Muon: what it does to a matrix, what it trains, and that a run with it goes on where it stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from glc_train.precision import Precision
from glc_train.training import TrainingError
from glc_train.training.muon import Muon, matrices, orthogonalised
from glc_train.training.section import make_stage
from glc_train.weights import build_codec, load_codec
from tests.training_harness import composed, curve_overrides, train

ONE_STAGE = "run=[autoencoder]"
NO_ADVERSARY = "stages.autoencoder.adversary=null"
SETTINGS = "stages.autoencoder"
RATE = [f"{SETTINGS}.muon_lr=2e-3", f"{SETTINGS}.schedule.final=1"]  # the same at every step, whatever their number


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(1e-6, 1e6),
    st.integers(0, 2**31),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_all_directions_get_one_length(rows: int, columns: int, scale: float, seed: int, dtype: torch.dtype) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    matrix = (u * s.clamp_min(s.max() / 20)) @ vh  # directions of almost no length stay short
    values = torch.linalg.svdvals(orthogonalised(scale * matrix, dtype).float())
    assert values.min() > 0.5
    assert values.max() < 1.35


@pytest.mark.parametrize(("rows", "columns"), [(24, 216), (216, 24), (24, 30)])
def test_wide_matrices_get_what_the_iteration_gives(rows: int, columns: int) -> None:
    """Also where directions have a ten-thousandth of the length of others."""
    generator = torch.Generator().manual_seed(4)
    u, _, vh = torch.linalg.svd(torch.randn(2, rows, columns, generator=generator), full_matrices=False)
    matrix = (u * torch.logspace(0, -4, 24)) @ vh
    x = (matrix / matrix.flatten(1).norm(dim=1)[:, None, None]).double()
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    torch.testing.assert_close(orthogonalised(matrix), x.float(), rtol=0, atol=2e-3)


def test_matrices_of_one_shape_move_as_they_would_alone() -> None:
    generator = torch.Generator().manual_seed(8)
    start = [torch.randn(8, 4, 3, 3, generator=generator) for _ in range(3)]
    start[1] = start[1].to(memory_format=torch.channels_last)
    gradients = [torch.randn(8, 4, 3, 3, generator=generator) for _ in start]

    def moved(chosen: list[int]) -> list[torch.Tensor]:
        weights = [nn.Parameter(start[i].clone(memory_format=torch.preserve_format)) for i in chosen]
        optimiser = Muon(weights, lr=0.1)
        for _ in range(2):
            for weight, i in zip(weights, chosen, strict=True):
                weight.grad = gradients[i].clone()
            optimiser.step()
        return [weight.detach() for weight in weights]

    together = moved([0, 1, 2])
    for number in range(3):
        torch.testing.assert_close(together[number], moved([number])[0], rtol=1e-4, atol=1e-5)
        assert together[number].stride() == start[number].stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrices_are_multiplied_in_what_the_device_computes_natively(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glc_train.training.muon.choose", lambda device: Precision(dtype, "the test says so"))
    used = []

    def noted(matrix: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
        used.append(kind)
        return orthogonalised(matrix, kind)

    monkeypatch.setattr("glc_train.training.muon.orthogonalised", noted)
    weight = nn.Parameter(torch.ones(3, 4))
    weight.grad = torch.ones(3, 4)
    Muon([weight], lr=1.0).step()
    assert used == [dtype]


def test_a_gradient_of_zeros_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    weight.grad = torch.zeros(3, 4)
    Muon([weight], lr=1.0).step()
    assert torch.equal(weight.detach(), torch.ones(3, 4))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_update_has_the_size_that_the_rate_says(memory_format: torch.memory_format) -> None:
    weight = nn.Parameter(torch.zeros(64, 32, 3, 3).to(memory_format=memory_format))
    weight.grad = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(1)).to(memory_format=memory_format)
    Muon([weight], lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.25), "0.7 to 1.2 times"
    along = torch.nn.functional.cosine_similarity(weight.detach().flatten(), -weight.grad.flatten(), dim=0)
    assert along > 0.8, "each weight moves against its own gradient"


def test_small_directions_are_learnt_as_fast_as_large_ones() -> None:
    """Least squares with inputs of very different size: plain gradient descent leaves the small ones behind."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(512, 16, generator=generator) * torch.logspace(0, -2, 16)
    target = torch.randn(16, 16, generator=generator)
    layer = nn.Linear(16, 16, bias=False)
    nn.init.zeros_(layer.weight)
    optimiser = Muon(layer.parameters(), lr=0.5)
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 0.5 * (1 - step / 150)
        (x @ (layer.weight.t() - target)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    error = (layer.weight.detach().t() - target).square().mean(1) / target.square().mean(1)
    assert error.max() < 0.1


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        Muon([nn.Parameter(torch.zeros(3))], lr=1.0)


def test_only_layers_that_mix_their_inputs_count_as_matrices() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    module = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 6, 3),
            "linear": nn.Linear(3, 5),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "embedding": nn.Embedding(7, 3),
            "norm": nn.GroupNorm(2, 4),
            "frozen": frozen,
        }
    )
    found = {tuple(weight.shape) for weight in matrices([module, module])}
    assert found == {(6, 4, 3, 3), (5, 3)}
    assert len(matrices([module, module])) == 2


def test_a_resumed_run_with_muon_is_the_uninterrupted_one(tmp_path: Path) -> None:
    def weights(out: Path) -> dict[str, torch.Tensor]:
        return load_codec(out / "autoencoder" / "last.ckpt").state_dict()

    once, twice = tmp_path / "once", tmp_path / "twice"
    train([*curve_overrides(once, 4), ONE_STAGE, NO_ADVERSARY, *RATE])
    for steps in (2, 4):
        train([*curve_overrides(twice, steps), ONE_STAGE, NO_ADVERSARY, *RATE])
    assert all(torch.equal(a, b) for a, b in zip(weights(once).values(), weights(twice).values(), strict=True))
    plain = tmp_path / "plain"
    train([*curve_overrides(plain, 4), ONE_STAGE, NO_ADVERSARY, RATE[1]])
    assert not all(torch.equal(a, b) for a, b in zip(weights(once).values(), weights(plain).values(), strict=True))


def test_muon_trains_the_parts_that_it_is_for(tmp_path: Path) -> None:
    config = composed(curve_overrides(tmp_path, 1))

    def trained(stage_name: str, muon_for: str) -> set[str]:
        section = config.stages[stage_name]
        section.muon_lr, section.muon_for = 1e-3, muon_for
        model: Any = OmegaConf.to_container(config.model)
        stage: Any = make_stage(section, build_codec(model), model)
        stage.prepare()
        optimisers = [o for o in stage.configure_optimizers() if isinstance(o, Muon)]
        found = {id(p) for o in optimisers for group in o.param_groups for p in group["params"]}
        return {name.partition(".")[0] for name, p in stage.codec.named_parameters() if id(p) in found}

    assert trained("joint", "all") == {"autoencoder", "transform"}
    assert trained("joint", "autoencoder") == {"autoencoder"}
    with pytest.raises(TrainingError, match="trains no layer of the auto-encoder"):
        trained("transform", "autoencoder")


def test_muon_for_something_else_is_refused(tmp_path: Path) -> None:
    option = "stages.autoencoder.muon_for=decoder"
    with pytest.raises(TrainingError, match=r"muon_for=decoder: input should be 'all' or 'autoencoder'"):
        train([*curve_overrides(tmp_path, 1), ONE_STAGE, option])


@pytest.mark.parametrize("on_device", [False, True])
def test_a_step_that_is_not_finite_leaves_everything_as_it_is(on_device: bool) -> None:
    weight = nn.Parameter(torch.randn(3, 5))
    muon = Muon([weight], lr=0.1)
    weight.grad = torch.randn(3, 5)
    muon.found_inf = torch.zeros(())
    muon.step()
    before, momentum = weight.detach().clone(), muon.state[weight]["momentum"].clone()
    weight.grad = torch.full((3, 5), float("nan"))
    muon.found_inf = torch.ones(())
    if on_device:  # where the step cannot look at it
        with torch.no_grad():
            muon._update([weight], muon.param_groups[0], torch.float32)
    else:
        muon.step()
    assert torch.equal(weight, before)
    assert torch.equal(muon.state[weight]["momentum"], momentum)
