"""Bad input stops before the first step with one sentence and a non-zero exit."""

from pathlib import Path

import pytest

from glc_train.training import TrainingError
from tests.training_harness import tiny_overrides, train, train_process


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["run=[joint]"], ["stage joint", "init_from"]),
        (["run=[polish]"], ["polish", "autoencoder, transform, joint"]),
        (["init_from=/nowhere/weights.ckpt"], ["/nowhere/weights.ckpt"]),
        (["data=folder", "data.train.root=/nowhere"], ["/nowhere"]),
        (["model.autoencoder.groups=8", "model.autoencoder.widths=[30,48,64]"], ["widths", "30"]),
        (["+model.autoencoder.depth=3"], ["depth"]),
        (["stages.autoencoder.batch_size=0"], ["batch_size"]),
    ],
)
def test_one_sentence(override: list[str], words: list[str], tmp_path: Path) -> None:
    with pytest.raises((TrainingError, ValueError, OSError)) as caught:
        train([*tiny_overrides(tmp_path / "out", 1), *override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not list((tmp_path / "out").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["run=[joint]"], ["stage joint", "init_from"]),
        (["experiment=no_such_one"], ["no_such_one"]),
        (["stages.autoencoder.crop_size=[64"], ["[64"]),
    ],
)
def test_the_program_says_it_without_a_traceback(override: list[str], words: list[str], tmp_path: Path) -> None:
    process = train_process([*tiny_overrides(tmp_path / "out", 1), *override])
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in output
    for word in words:
        assert word in output
