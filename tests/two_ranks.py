"""What one of two processes (gloo) sees: `python -m tests.two_ranks OUT`, with the variables that torchrun sets.

The second computes without AVX: its sums differ in their last bits, as they do from one GPU to another.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from glc_train.layers import VectorQuantiser
from glc_train.training import CodebookSettings, CodebookWatch, GradientAveraging
from glc_train.training.distributed import largest, number_from_rank_zero
from glc_train.training.latent_stage import latent_variance
from tests.tiny_stages import image_stage, pictures


def figures(trainer: lightning.Trainer) -> dict[str, float]:
    """Of the validation of an untrained stage on five pictures."""
    loader: Any = DataLoader(list(pictures(5).split(1)), batch_size=None)  # type: ignore[arg-type]
    (found,) = trainer.validate(image_stage("transform"), loader, verbose=False)
    return dict(found)


def latents(rank: int) -> torch.Tensor:
    """(2, 4, 16, 16), far from those of the other rank."""
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(rank)) + 3 * rank


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
    result["agreed"] = [number_from_rank_zero(1.5 + rank), *largest([rank, 3 - rank])]
    (out / f"rank{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
