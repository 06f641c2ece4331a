"""Weights in the form that a fast path wants, made once and kept for as long as the layer's parameters stay the same.

Nothing is kept on the layer: copies, `state_dict` and pickles know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

T = TypeVar("T")
_keeping = ContextVar("_keeping", default=False)


@contextmanager
def keep_prepared(keep: bool = True) -> Iterator[None]:
    """Inside, what is prepared for a layer is kept from its second use on: a single picture gains nothing by it.

    That is for layers in `eval` mode whose parameters need no gradient, and until the next step of any optimiser: fused
    ones change parameters without counting it, and so does FSDP, so that several processes keep nothing. Nor are writes
    into frozen parameters through `.data` and NumPy views counted: call `forget_prepared` after them.
    """
    token = _keeping.set(keep)
    try:
        yield
    finally:
        _keeping.reset(token)


def prepared(layer: nn.Module, kind: object, make: Callable[[], T]) -> T:
    """What `make` makes of the layer's parameters, or made of the same ones before; `kind` tells forms apart.

    To be called without gradients.
    """
    if not _keeping.get() or not _is_frozen(layer):
        return make()
    form = _forms.get(layer)
    if form is None or not form.fits(layer, kind):
        form = _forms[layer] = _Form(layer, kind)
    if form.value is None:
        with torch.inference_mode(False), torch.no_grad():  # inference tensors are of use in that mode alone
            made = make()
        if form.used:
            for tensor in filter(_is_on_card, _tensors(made)):  # other streams may be the next to read it
                torch.cuda.current_stream(tensor.device).synchronize()
        form.value, form.used = (made if form.used else None), True
        return made
    value: T = form.value
    return value


def forget_prepared(network: nn.Module) -> None:
    """Frees what is kept for the layers of the network."""
    for layer in network.modules():
        _forms.pop(layer, None)


def kept_bytes(network: nn.Module) -> int:
    """What is kept for the layers of the network."""
    forms = (_forms.get(layer) for layer in network.modules())
    tensors = (tensor for form in forms if form is not None for tensor in _tensors(form.value))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(value: Any) -> Iterator[Tensor]:
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, Tensor):
            yield each


def _is_on_card(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda" and type(tensor) is Tensor  # a fake one is computed nowhere


class _Parameter:
    """A parameter as it is now."""

    def __init__(self, parameter: Tensor) -> None:
        self._object = ref(parameter)
        self._values = parameter.detach()  # holds the memory, so that nothing else gets its address
        self._address, self._version = parameter.data_ptr(), parameter._version

    def is_still(self, parameter: Tensor) -> bool:
        return (
            self._object() is parameter
            and self._version == parameter._version
            and self._address == parameter.data_ptr()
        )


class _Form:
    """What was prepared for a layer: nothing yet at its first use."""

    def __init__(self, layer: nn.Module, kind: object) -> None:
        self.kind, self.used = kind, False
        self.value: Any = None
        self._parameters = [_Parameter(parameter) for parameter in layer.parameters()]

    def fits(self, layer: nn.Module, kind: object) -> bool:
        pairs = zip(self._parameters, layer.parameters(), strict=False)
        return self.kind == kind and all(known.is_still(parameter) for known, parameter in pairs)


_forms: WeakKeyDictionary[nn.Module, _Form] = WeakKeyDictionary()
register_optimizer_step_post_hook(lambda *_: _forms.clear())


def _is_frozen(layer: nn.Module) -> bool:
    if layer.training or torch.compiler.is_compiling():
        return False
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False
    return not any(each.requires_grad or each.is_inference() for each in layer.parameters())
