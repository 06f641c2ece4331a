"""A callback that writes down what a rank was trained on."""

import json
import time
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from tests.data.shards.shard_files import number_of


class SeenSamples(lightning.Callback):
    """Adds a line to `out`/rank0.jsonl, rank1.jsonl … after each step; the pictures are those of `write_numbers`."""

    def __init__(self, out: str, pause: float = 0.0) -> None:
        """pause: seconds to wait after each step."""
        self.out = Path(out)
        self.pause = pause

    def on_train_batch_end(self, trainer: lightning.Trainer, stage: Any, outputs: Any, batch: Tensor, _: int) -> None:
        pictures = ((batch + 1) * 127.5).round().byte()
        line = {
            "step": stage.train_step - 1,
            "numbers": [number_of(picture) for picture in pictures],
            "loss": float(trainer.callback_metrics["loss"]),
            "grad_norm": float(trainer.callback_metrics["train/grad_norm"]),
        }
        with (self.out / f"rank{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(self.pause)
