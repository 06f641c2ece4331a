"""Gradients averaged over all ranks while the backward pass still computes others."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from glc_train.training.distributed import is_distributed, numbers_from_rank_zero
from glc_train.training.sharding import is_sharded

_BUCKET = 25 * 2**20  # bytes averaged in one message


class GradientAverage:
    """Averages the gradients of some parameters over all ranks, in a few large messages.

    PyTorch's wrapper expects one backward pass a step that reaches every parameter. Here two networks learn, each in
    a pass of its own, and which parameters take part changes when the discriminator starts.

    A message leaves as soon as its gradients are there, and the backward pass goes on meanwhile. All ranks send the
    same messages in the same order: that in which the gradients came on rank 0 in the first pass, whose own messages
    leave at its end. A gradient that a rank lacks at the end of a pass counts as zero.

    Args:
        parameters: the same on every rank. Those that need no gradient are left out for as long, and those that are
            spread over the ranks for good: FSDP averages them.
        bucket: bytes of a message.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], bucket: int = _BUCKET) -> None:
        self.parameters = list(dict.fromkeys(parameters))
        self._bucket = bucket
        self._trained: list[nn.Parameter] = []
        self._hooks: list[Any] = []
        self._messages: list[list[int]] = []  # numbers of trained parameters
        self._place: dict[int, int] = {}  # of a trained parameter, the number of its message
        self._collecting = False
        self._came: list[int] = []
        self._awaited: list[set[int]] = []  # of each message
        self._sent: list[tuple[Any, Tensor]] = []

    @contextmanager
    def overlapping(self, last: bool = True) -> Iterator[None]:
        """Around a backward pass; the averages are there after `wait`.

        Args:
            last: whether it is the last before a step of the optimiser, which completes the gradients.
        """
        if not (last and is_distributed()):
            yield
            return
        self._watch()
        self._came, self._awaited = [], [set(message) for message in self._messages]
        self._collecting = True
        try:
            yield
        finally:
            self._collecting = False
        if not self._messages:
            self._plan()
        while len(self._sent) < len(self._messages):
            self._send()

    def wait(self) -> None:
        """Ends when all gradients are averages."""
        for work, gradients in self._sent:
            work.wait()
            gradients /= dist.get_world_size()
        self._sent = []

    def _watch(self) -> None:
        """Follows the parameters that are trained now."""
        trained = [p for p in self.parameters if p.requires_grad and not is_sharded(p)]
        if [id(p) for p in trained] == [id(p) for p in self._trained]:
            return
        for hook in self._hooks:
            hook.remove()
        self._trained, self._messages = trained, []
        self._hooks = [p.register_post_accumulate_grad_hook(partial(self._arrived, k)) for k, p in enumerate(trained)]

    def _arrived(self, number: int, _: Tensor) -> None:
        if not self._collecting:
            return
        self._came.append(number)
        if not self._messages:
            return
        if number not in self._awaited[self._place[number]]:
            raise RuntimeError(
                "a parameter got its gradient in two parts of one backward pass, as with torch.utils.checkpoint and "
                "use_reentrant=True: set use_reentrant=False, or train in one process"
            )
        self._awaited[self._place[number]].remove(number)
        while len(self._sent) < len(self._messages) and not self._awaited[len(self._sent)]:
            self._send()

    def _plan(self) -> None:
        """Divides the parameters into messages; those without a gradient on rank 0 come last."""
        order = numbers_from_rank_zero([*dict.fromkeys([*self._came, *range(len(self._trained))])])
        size = 0
        for number in map(int, order):
            parameter = self._trained[number]
            same = bool(self._messages) and self._trained[self._messages[-1][0]].dtype == parameter.dtype
            if not same or size >= self._bucket:
                self._messages.append([])
                size = 0
            self._messages[-1].append(number)
            size += parameter.numel() * parameter.element_size()
        self._place = {number: k for k, message in enumerate(self._messages) for number in message}

    def _send(self) -> None:
        """Sends the next message. The gradients become parts of it, so that nothing has to be copied back."""
        parameters = [self._trained[number] for number in self._messages[len(self._sent)]]
        gradients = torch.zeros(
            sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device
        )
        for parameter, part in zip(parameters, gradients.split([p.numel() for p in parameters]), strict=True):
            strides = torch.empty_like(parameter, device="meta").stride()  # channels-last weights keep theirs
            part = part.as_strided(parameter.shape, strides)
            if parameter.grad is not None:
                part.copy_(parameter.grad)
            parameter.grad = part
        self._sent.append((dist.all_reduce(gradients, async_op=True), gradients))
