"""Order, names and number of the stages are those of the configuration; each knows what it started from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glc_train import load_codec
from glc_train.autoencoder import VQVAE
from glc_train.training import TrainingError, run_recipe
from glc_train.weights import WeightsError, read_training_state
from tests.training_harness import composed, curve_overrides, tiny_overrides, train

NO_LPIPS = [f"stages.{stage}.picture.lpips=0" for stage in ("autoencoder", "joint")]
EXPORT = "weights.safetensors"


def overrides(out: Path, *more: str, steps: int = 1) -> list[str]:
    return [
        *tiny_overrides(out, steps),
        *NO_LPIPS,
        "trainer.limit_val_batches=0",
        "~stages.joint.adversary",
        "~stages.joint.pixel_predictor",
        *more,
    ]


def start_of(folder: Path) -> Any:
    return json.loads((folder / "start.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of three stages."""
    out = tmp_path_factory.mktemp("trained") / "out"
    train(overrides(out))
    return out


def test_stages_are_those_of_the_list(trained: Path, tmp_path: Path) -> None:
    """A fourth stage, of the kind of the third and with other losses, under a name of the user's."""
    small = [o.replace("stages.joint", "stages.polish") for o in tiny_overrides(tmp_path, 1) if "stages.joint" in o]
    more = ["+stage@stages.polish=joint", *small, "~stages.polish.adversary", "~stages.polish.pixel_predictor"]
    out = tmp_path / "out"
    options = [*more, "stages.polish.picture.lpips=0", "stages.polish.picture.l1=3", "run=[joint,polish]"]
    weights = train(overrides(out, *options, f"init_from={trained / 'transform' / EXPORT}"))
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["joint", "polish"]
    assert weights.read_bytes() == (out / "polish" / EXPORT).read_bytes()
    assert Path(start_of(out / "polish")["weights"]) == out / "joint" / EXPORT


def test_no_behaviour_hangs_on_a_name(trained: Path, tmp_path: Path) -> None:
    """The three kinds of stages under other names train what they train under ours."""
    config = composed(overrides(tmp_path / "out"))
    config.stages = {f"{name}_of_mine": section for name, section in config.stages.items()}
    ours, theirs = load_codec(trained / EXPORT).state_dict(), load_codec(run_recipe(config)).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_given_weights_are_what_is_used(trained: Path, tmp_path: Path) -> None:
    """Also where `out` holds an export of an earlier stage."""
    out = tmp_path / "out"
    train(overrides(out, "run=[autoencoder,transform]"))
    given = trained / "transform" / EXPORT
    train(overrides(out, "run=[joint]", f"init_from={given}"))
    assert Path(start_of(out / "joint")["weights"]) == given
    assert f"| starts from | {given} (SHA-256 " in (out / "joint" / "model_card.md").read_text()


def test_a_stage_is_not_published_over_a_changed_parent(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(overrides(out, "run=[autoencoder,transform]"))
    weights = out / "transform" / EXPORT
    before = weights.read_bytes()
    with pytest.raises(TrainingError, match=r"transform started from .*/weights.* trains further: move that"):
        train(overrides(out, steps=2))
    assert json.loads((out / "autoencoder" / "summary.json").read_text())["steps"] == 1, "refused after the training"
    train(overrides(out, "run=[autoencoder]", steps=2))
    for run in ("run=[transform]", "run=[joint]", "run=null"):
        with pytest.raises(TrainingError, match=r"started from .*autoencoder/weights.* (now is|changed since)"):
            train(overrides(out, run))
    assert not (out / "joint" / EXPORT).exists()
    assert weights.read_bytes() == before
    with pytest.raises(TrainingError, match=r"joint/weights.* now is something else: move"):
        train(overrides(out, "run=[transform]", f"init_from={trained / 'joint' / EXPORT}"))


def test_predictors_travel_in_the_export(trained: Path, tmp_path: Path) -> None:
    """A copy of the file alone is enough, and nothing of them gets into the codec."""
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((trained / "transform" / EXPORT).read_bytes())
    frozen = ["stages.joint.train_transform=false", "stages.joint.train_encoder=false"]
    weights = train(overrides(tmp_path / "out", "run=[joint]", f"init_from={copy}", *frozen))
    before, after = (read_training_state(path, "predictor") for path in (copy, weights))
    assert before
    assert all(torch.equal(before[name], after[name]) for name in before)
    checkpoint = read_training_state(trained / "transform" / "last.ckpt", "predictor")
    assert all(torch.equal(before[name], checkpoint[name]) for name in before)
    assert not any(name.startswith(("training", "predictor")) for name in load_codec(copy).state_dict())


def test_a_predictor_of_other_sizes_starts_untrained(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a stage is added to the list, with the predictor of its kind and not that of the stage before."""
    start = trained / "transform" / EXPORT
    train(overrides(tmp_path / "out", "run=[joint]", f"init_from={start}", "stages.joint.predictor.width=24"))
    assert f"the predictor in {start} has other sizes than this stage's: it starts untrained" in caplog.text


def test_a_stage_may_take_over_the_whole_state_of_the_one_before(tmp_path: Path) -> None:
    """Two stages, the second from the checkpoint of the first, are one stage with a change of losses on its way."""
    common = [*curve_overrides(tmp_path, 6), "run=[autoencoder]"]
    whole = [o.replace(str(tmp_path), str(tmp_path / "whole")) for o in common]
    ours = load_codec(train(whole)).state_dict()
    config = composed([o.replace(str(tmp_path), str(tmp_path / "parts")) for o in common])
    config.run = None
    first = config.stages.autoencoder
    second = first.copy()
    first.until, second.start, second.seed = 0.5, "checkpoint", 0
    config.stages = {"first": first, "second": second}
    theirs = load_codec(run_recipe(config)).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert json.loads((tmp_path / "parts" / "first" / "summary.json").read_text())["steps"] == 3
    assert json.loads((tmp_path / "parts" / "second" / "summary.json").read_text())["steps"] == 6


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["+stages.joint.lrr=1"], "stages.joint.lrr: neither the stage nor its data has such an option"),
        (["stages.joint.start=last"], "stages.joint.start=last: choose weights or checkpoint"),
        (["stages.joint.until=1.5"], "until must be above 0 and at most 1"),
        (["stages.joint._target_=torch.nn.Linear"], "stages.joint._target_=torch.nn.Linear is no stage"),
        (["stages.joint._target_=mine.Stage"], "stages.joint._target_=mine.Stage"),
        (["~stages.autoencoder"], "stage transform starts from trained weights: give init_from=FILE"),
        (["run=[transform]"], "run stage autoencoder first, or give init_from=FILE"),
        (["run=[]"], "choose stages among autoencoder, transform, joint"),
    ],
)
def test_lists_that_cannot_be_run(override: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises((TrainingError, ValueError)) as caught:
        train(overrides(tmp_path / "out", *override))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt"))


class WiderAutoencoder(VQVAE):
    """A network of a user, with a setting that ours has not."""

    def __init__(self, gain: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.gain = torch.nn.Parameter(torch.tensor(gain))


def test_a_network_of_ones_own_trains_is_checkpointed_and_exported(tmp_path: Path) -> None:
    name = f"{__name__}.{WiderAutoencoder.__name__}"
    own = [f"model.autoencoder._target_={name}", "+model.autoencoder.gain=2.5"]
    weights = train(overrides(tmp_path, *own, "run=[autoencoder,transform]"))
    train(overrides(tmp_path, *own, "run=[autoencoder]", steps=2))  # goes on from the checkpoint
    for path in (weights, tmp_path / "transform" / "last.ckpt"):
        codec = load_codec(path, trusted=[name])
        assert isinstance(codec.autoencoder, WiderAutoencoder)
        assert float(codec.autoencoder.gain) == 2.5
        with pytest.raises(WeightsError, match=rf"made of {name}, a class from outside"):
            load_codec(path)
