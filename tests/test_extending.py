"""Each part of docs/extending.md, as it stands there, on small crops; and that it has its effect."""

import csv
import runpy
import shlex
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from glc_train import load_codec
from tests.data.shards.shard_files import number_shards
from tests.pages import BLOCKS
from tests.training_harness import ROOT, logged, tiny_image, tiny_overrides, train

ON_PAGE = [block for block in BLOCKS if block.page == "docs/extending.md"]
PARTS = {
    block.file.removesuffix(".py"): (block.text, next_block.text)
    for block, next_block in pairwise(ON_PAGE)
    if block.file
}
EFFECTS: dict[str, Callable[[Path], object]] = {
    "my_loss": lambda out: logged(out / "autoencoder", "train/loss/charbonnier"),
    "my_stage": lambda out: logged(out / "autoencoder", "train/loss/edges"),
    "my_data": lambda out: "my_data.Noise" in (out / "model_card.md").read_text(),
    "my_shards": lambda out: "my_shards.Shards" in (out / "model_card.md").read_text(),
    "my_callback": lambda out: len(logged(out / "autoencoder", "train/brightness")) == 2,
    "my_network": lambda out: load_codec(out / "weights.safetensors", trusted=["my_network.Deeper"]),
}


def written(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts the file of a part in a folder, from which it can be imported; the overrides of its command."""
    source, command = PARTS[name]
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    _, program, *overrides = shlex.split(command)
    assert program == ("evaluate.py" if name == "my_metric" else "train.py")
    return overrides


def test_every_part_is_short() -> None:
    assert PARTS.keys() == {*EFFECTS, "my_metric"}
    assert max(len(source.splitlines()) for source, _ in PARTS.values()) <= 30


@pytest.mark.parametrize("name", EFFECTS)
def test_a_part_of_training(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = written(name, tmp_path, monkeypatch)
    if name == "my_shards":
        number_shards(tmp_path, 8)
        (tmp_path / "shards").rename("SHARDS")
    out = tmp_path / "outputs" / name
    small = [o for o in tiny_overrides(out, 2, ["autoencoder"]) if not o.startswith("data.val_")]
    train(
        [
            *small,
            "trainer.limit_val_batches=0",
            *(() if name == "my_loss" else ["stages.autoencoder.picture.lpips=0"]),
            *overrides,
        ]
    )
    assert EFFECTS[name](out)


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = written("my_metric", tmp_path, monkeypatch)
    weights = tiny_image(tmp_path / "tiny.safetensors")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", f"ckpt={weights}", "out=results", "progress=false", *overrides])
    runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")
    with (tmp_path / "results" / "results.csv").open(newline="") as file:
        assert all(float(row["edges"]) > 0 for row in csv.DictReader(file))
