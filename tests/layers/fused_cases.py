"""Kernels for GPUs, run by Triton's interpreter: `test_fused.py` starts this, with TRITON_INTERPRET=1."""

import copy

import pytest
import torch
from torch import Tensor, nn

from glc_train.autoencoder import VQVAE
from glc_train.layers import fused, fused_kernels
from tests.layers.fused_checks import check_norm, check_sum


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps on the processor go to the kernels, which run by Triton's interpreter."""

    def fits(x: Tensor) -> bool:
        last = x.is_contiguous(memory_format=torch.channels_last)
        return x.element_size() == 2 and last and not torch.is_grad_enabled()

    monkeypatch.setattr(fused, "_kernels", lambda: fused_kernels)
    monkeypatch.setattr(fused, "fits", fits)


@pytest.mark.parametrize(("shape", "groups"), [((1, 8, 7, 9), 4), ((2, 96, 13, 11), 32), ((1, 48, 40, 70), 8)])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("swish", [False, True])
def test_normalisation_of_a_map(shape: tuple[int, ...], groups: int, swish: bool, biased: bool) -> None:
    check_norm("cpu", shape, groups, swish, biased)


def test_a_map_in_many_parts_keeps_its_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_NUMBERS", 64)
    monkeypatch.setattr(fused, "_PARTS", 300)  # more than are looked at together
    check_norm("cpu", (1, 8, 61, 17), 2, swish=False, biased=True)


@pytest.mark.parametrize(("biased", "two"), [(True, True), (True, False), (False, True)])
def test_sums_in_place(biased: bool, two: bool) -> None:
    check_sum("cpu", (2, 96, 13, 11), biased, two)


def test_an_auto_encoder_in_few_passes_gives_the_same() -> None:
    model = VQVAE([16, 24, 32], 12, 20, res_blocks=1, patch=1, groups=4, window=3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    exact = copy.deepcopy(model).double()
    x, latent = torch.rand(1, 3, 32, 48) * 2 - 1, torch.randn(1, 12, 8, 12)
    pairs = [(model.encoder, exact.encoder, x), (model.decoder, exact.decoder, latent)]
    for network, reference, given in pairs:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = network(given, 3)
        expected = reference(given.double(), 3)
        assert float((found - expected).detach().std() / expected.detach().std()) < 0.05
