"""Weights of convolutions in 8 bits: as fine as files use them, so that packing a decoder costs next to nothing.

Exact arithmetic (`glc_train.layers.exact`) rounds them to such integers anyway, with a unit for each output channel.
"""

import torch
from torch import Tensor

from glc_train.weights.errors import WeightsError

_EXPONENT = ".exponent"
_LARGEST = 127


def packed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state with the kernels below `prefix` as int8 (O, I, k, k), beside exponents int8 (O,) of their units."""
    result = dict(state)
    for name, weight in state.items():
        if name.startswith(prefix) and name.endswith(".weight") and weight.ndim == 4:
            exponents = torch.frexp(weight.float().abs().amax((1, 2, 3))).exponent - 7
            exponents = exponents.clamp(-128, 127)
            integers = torch.ldexp(weight.float(), -exponents.view(-1, 1, 1, 1)).round()
            result[name] = integers.clamp(-_LARGEST, _LARGEST).to(torch.int8)
            result[name + _EXPONENT] = exponents.to(torch.int8)
    return result


def unpacked(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The state that `packed` was given, its kernels rounded. Raises WeightsError where a file's parts do not fit."""
    result = {name: tensor for name, tensor in state.items() if not name.endswith(_EXPONENT)}
    for name in sorted(state.keys() - result.keys()):
        exponents, kernel = state[name], name.removesuffix(_EXPONENT)
        integers = state.get(kernel)
        parts = () if integers is None else (integers, exponents)
        if {part.dtype for part in parts} != {torch.int8} or {part.shape[:1] for part in parts} != {exponents.shape}:
            raise WeightsError(f"{source} holds no kernel in 8 bits for {name}: it is damaged or forged")
        assert integers is not None
        units = exponents.int().view(-1, *[1] * (integers.ndim - 1))
        result[kernel] = torch.ldexp(integers.float(), units)
    return result
