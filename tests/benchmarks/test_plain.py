"""The parts of the plain formulation compute what ours do."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import plain, step
from glc_train import backbones
from glc_train.training import Draws, PictureLoss
from glc_train.training.muon import Muon
from tests.random_trunk import random_trunk


@pytest.fixture
def random_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(net: backbones.BackboneName) -> tuple[dict[str, torch.Tensor], None]:
        state = random_trunk(net).state_dict()
        return {name: value for name, value in state.items() if name.startswith("features.")}, None

    for module in (backbones, plain):
        monkeypatch.setattr(module, "find_backbone", lambda net, *_: found(net))


@pytest.mark.usefixtures("random_backbones")
def test_pixel_losses_of_other_peoples_networks_are_ours() -> None:
    options: dict[str, Any] = {"net": "alex", "lpips": 3.0, "vgg": 4.0, "style": 6.0, "shift": 3, "vgg_pictures": 1}
    generator = torch.Generator().manual_seed(0)
    x, x_hat = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    x_hat.requires_grad_()
    results = [loss(x_hat, x, Draws(0, 0)) for loss in (PictureLoss(**options), plain.PlainPictureLoss(**options))]
    for name, ours in results[0][1].items():
        torch.testing.assert_close(ours, results[1][1][name], rtol=1e-4, atol=1e-6, msg=name)
    assert {"loss/lpips", "loss/lpips_vgg", "loss/style"} <= results[0][1].keys()
    ours, theirs = (torch.autograd.grad(total, x_hat)[0] for total, _ in results)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


@pytest.mark.usefixtures("random_backbones")
def test_pixel_losses_follow_the_pictures_to_their_device() -> None:
    loss, x = plain.PlainPerceptualLoss("vgg"), torch.rand(1, 3, 64, 64, device="meta")
    assert {found.device.type for found in (loss(x, x), *loss.with_style(x, x))} == {"meta"}


def test_muon_matrix_by_matrix_takes_our_step() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3), nn.Linear(5, 20), nn.Linear(3, 3))
    theirs = copy.deepcopy(ours)
    weights = [[layer.weight for layer in network] for network in (ours, theirs)]
    optimisers = [Muon(weights[0], lr=0.1), plain.PlainMuon(weights[1], lr=0.1)]
    for _ in range(3):
        for one, other in zip(*weights, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for each in (*ours, *theirs)[3::4]:
            each.weight.grad = None  # one that has no gradient stays
        for optimiser in optimisers:
            optimiser.step()
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_plain_stage_has_plain_parts() -> None:
    options = step.parse(["--model", "tiny", "--set", "stages.joint.picture=null", "stages.transform.muon_lr=1e-3"])
    stage = step.build(step.configuration("transform", options), "transform", plain=True)
    optimisers: Any = stage.configure_optimizers()
    assert [type(each) for each in optimisers] == [torch.optim.AdamW, plain.PlainMuon]
    assert optimisers[0].defaults["fused"] is None
    assert optimisers[1].defaults["lr"] == 1e-3
