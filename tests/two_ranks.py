"""What one of two processes (gloo) sees: `python -m tests.two_ranks OUT`, with the variables that torchrun sets.

The second computes without AVX: its sums differ in their last bits, as they do from one GPU to another.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from glc_train.layers import VectorQuantiser
from glc_train.training import CodebookSettings, CodebookWatch, GradientAveraging
from glc_train.training import stage as stage_module
from glc_train.training.averaging import GradientAverage
from glc_train.training.distributed import all_mean, largest, numbers_from_rank_zero
from glc_train.training.latent_stage import latent_variance
from tests.tiny_stages import fit, image_stage, pictures


def figures(trainer: lightning.Trainer) -> dict[str, float]:
    """Of the validation of an untrained stage on five pictures."""
    loader: Any = DataLoader(list(pictures(5).split(1)), batch_size=None)  # type: ignore[arg-type]
    (found,) = trainer.validate(image_stage("transform"), loader, verbose=False)
    return dict(found)


def latents(rank: int) -> torch.Tensor:
    """(2, 4, 16, 16), far from those of the other rank."""
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(rank)) + 3 * rank


class Network(nn.Module):
    """Layers one after the other; one that nobody uses, one that rank 0 uses, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(4))
        self.unused, self.of_rank_zero, self.frozen = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor, rank: int) -> torch.Tensor:
        x = self.first(x)
        for layer in (*self.layers, self.frozen):
            x = torch.tanh(layer(x))
        return (x if rank else self.of_rank_zero(x)).square().sum()


def averages(rank: int) -> dict[str, Any]:
    """The largest error of averaged gradients in each step, and the messages sent during the last backward pass of
    each step and after it. From the third step on, what was frozen is trained."""
    network, events = Network(), list[str]()
    average = GradientAverage(network.parameters(), bucket=400)
    original = dist.all_reduce

    def noted(*arguments: Any, **options: Any) -> Any:
        events.append("sent")
        return original(*arguments, **options)

    errors, sent = [], []
    for step in range(5):
        network.frozen.requires_grad_(step > 2)
        trained = [p for p in network.parameters() if p.requires_grad]
        expected = [torch.zeros_like(p) for p in trained]
        network.zero_grad()
        for last in (False, True):
            x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(10 * step + rank + 5 * last))
            x.requires_grad_().register_hook(lambda _: events.append("end"))
            for total, own in zip(
                expected, torch.autograd.grad(network(x, rank), trained, allow_unused=True), strict=True
            ):
                total += 0 if own is None else own
            events.clear()
            with patch.object(dist, "all_reduce", noted), average.overlapping(last):
                network(x, rank).backward()
        average.wait()
        end = events.index("end")
        sent.append((end, len(events) - 1 - end))
        pairs = zip(trained, map(all_mean, expected), strict=True)
        errors.append(max(float((p.grad - wanted).abs().max()) for p, wanted in pairs if p.grad is not None))
        assert all(p.grad is not None and p.grad.stride() == p.stride() for p in trained)
    assert all(p.grad is None for p in network.parameters() if not p.requires_grad)
    return {"errors": errors, "sent": sent}


class Afterwards(GradientAverage):
    """Averages gradient by gradient after the backward pass."""

    @contextmanager
    def overlapping(self, last: bool = True) -> Iterator[None]:
        yield

    def wait(self) -> None:
        for parameter in self.parameters:
            given = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = all_mean(given)


def trained(kind: type[GradientAverage]) -> dict[str, torch.Tensor]:
    """A stage with everything that learns, after two steps of two parts each."""
    made = image_stage("joint", {"accumulate": 2, "muon_lr": 1e-3, "lr": 1e-3})
    made.fresh = False
    with patch.object(stage_module, "GradientAverage", kind):
        fit(made, list(pictures(16).split(4)), devices=2, strategy=GradientAveraging())
    assert made.train_step == 2
    return dict(made.state_dict())


def main(out: Path) -> None:
    """Writes what this rank has found."""
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy=GradientAveraging(), logger=False, enable_progress_bar=False
    )
    result: dict[str, Any] = {"figures": figures(trainer)}
    rank = trainer.global_rank
    result["variance"] = float(latent_variance([latents(rank)]))
    torch.manual_seed(0)
    quantiser = VectorQuantiser(16, 4)
    watch = CodebookWatch(quantiser, CodebookSettings(kmeans=5, ema=0.9, window=1))
    vectors = latents(rank).permute(0, 2, 3, 1).reshape(-1, 4)
    watch.initialise(vectors, torch.Generator().manual_seed(1))
    result["entries"] = quantiser.embedding.weight.tolist()
    watch.update(torch.zeros(len(vectors), dtype=torch.int64), vectors, torch.Generator().manual_seed(2), 0)
    result["restarted"] = quantiser.embedding.weight.tolist()
    within = CodebookWatch(quantiser, CodebookSettings(window=2))
    within.update(torch.full((len(vectors),), rank), vectors, torch.Generator().manual_seed(2), 0)
    result["counts"] = within.counts[:3].tolist()
    result["agreed"] = [*numbers_from_rank_zero([1.5 + rank]), *largest([rank, 3 - rank])]
    result["averages"] = averages(rank)
    during, after = trained(GradientAverage), trained(Afterwards)
    result["differences"] = [float((during[name].double() - after[name].double()).abs().max()) for name in after]
    (out / f"rank{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
