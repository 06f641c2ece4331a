"""Two real processes (gloo) train what one process trains."""

from pathlib import Path

import pytest

from tests.training_harness import STAGES, curve_overrides, logged, train_process

STEPS = 8


def _run(out: Path, extra: list[str]) -> None:
    process = train_process([*curve_overrides(out, STEPS), *extra])
    output, _ = process.communicate(timeout=290)
    assert process.returncode == 0, output[-3000:]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".log")  # Hydra logs each process


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    out = tmp_path_factory.mktemp("one") / "out"
    _run(out, [])
    return out


# "cpu" names no strategy: the right one is chosen.
@pytest.mark.parametrize("trainer", ["cpu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ddp", "fsdp"))])
def test_two_processes_give_the_losses_of_one(trainer: str, one: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    halves = [f"stages.{stage}.batch_size=2" for stage in STAGES]
    _run(
        two,
        [f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true", *halves],
    )
    for stage in STAGES:
        assert (two / stage / "weights.safetensors").is_file()
        assert len(list((two / stage / "csv").iterdir())) == 1, "one log folder, whatever the number of processes"
        # Losses are logged by rank 0 on its half of the batch; the averaged gradient's norm is of the whole batch.
        expected, measured = (logged(out / stage, "train/grad_norm") for out in (one, two))
        assert measured == pytest.approx(expected, rel=0.05), stage
    assert _names(two) == _names(one), "no folder of its own for the second process"
