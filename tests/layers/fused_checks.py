"""What the kernels of `layers.fused` must compute, on any device."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glc_train.layers import GroupNorm, fused

_ROUNDING = 2.0**-7  # of bfloat16, in terms of a number: the interpreter cuts digits off


def a_map(*shape: int, device: str = "cpu") -> Tensor:
    """Normal numbers around 3, channels last, bfloat16."""
    return (2 * torch.randn(shape, device=device) + 3).to(torch.bfloat16, memory_format=torch.channels_last)


def _norm(groups: int, channels: int, device: str = "cpu") -> GroupNorm:
    norm = GroupNorm(groups, channels).to(device)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def check_norm(device: str, shape: tuple[int, ...], groups: int, swish: bool, biased: bool) -> None:
    x, norm = a_map(*shape, device=device), _norm(groups, shape[1], device)
    bias = torch.randn(shape[1], device=device) if biased else None
    with torch.no_grad():
        found = fused.norm(x, norm, swish, bias)
        full = x.double() if bias is None else x.double() + bias[:, None, None]
        expected = F.group_norm(full, groups, norm.weight.double(), norm.bias.double(), 1e-6)
    expected = F.silu(expected) if swish else expected
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found.double(), expected, rtol=_ROUNDING, atol=1e-3)


def check_sum(device: str, shape: tuple[int, ...], biased: bool, two: bool) -> None:
    x = a_map(*shape, device=device)
    bias, other = torch.randn(shape[1], device=device) if biased else None, torch.randn_like(x) if two else None
    expected = x.float() + (0 if bias is None else bias[:, None, None]) + (0 if other is None else other.float())
    with torch.no_grad():
        found = fused.add(x, bias, other)
    assert found is x
    assert torch.allclose(found.float(), expected, rtol=_ROUNDING, atol=1e-3)
