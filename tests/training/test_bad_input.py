"""Bad input stops before the first step with one sentence and a non-zero exit."""

from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from glc_train.training import TrainingError, run_recipe
from glc_train.training.options import check_options
from glc_train.weights import WeightsError
from tests.training_harness import ROOT, composed, curve_overrides, tiny_overrides, train, train_process


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["run=[joint]"], ["stage joint", "init_from"]),
        (["run=[polish]"], ["polish", "autoencoder, transform, joint"]),
        (["stages.autoencoder.picture._target_=own_los.Bug"], ["stages.autoencoder.picture._target_=own_los.Bug"]),
        (["data.train._target_=nowhere.Crops"], ["data.train._target_=nowhere.Crops"]),
        (["init_from=/nowhere/weights.ckpt"], ["/nowhere/weights.ckpt"]),
        (["data=folder", "data.train.root=/nowhere"], ["/nowhere"]),
        (["model.autoencoder.groups=8", "model.autoencoder.widths=[30,48,64]"], ["widths", "30"]),
        (["+model.autoencoder.depth=3"], ["depth"]),
        (["stages.autoencoder.batch_size=0"], ["stages.autoencoder.batch_size must be at least 1, not 0"]),
        (["stages.joint.steps=0"], ["stages.joint.steps must be at least 1, not 0"]),
        (["stages.autoencoder.steps=-3"], ["stages.autoencoder.steps must be at least 1, not -3"]),
        (["stages.joint.val_every=0"], ["stages.joint.val_every must be at least 1, not 0"]),
        (["stages.transform.accumulate=0"], ["stages.transform.accumulate must be at least 1, not 0"]),
        (["stages.autoencoder.lr=-1e-3"], ["stages.autoencoder.lr must be at least 0, not -0.001"]),
        (["stages.joint.minutes=0"], ["stages.joint.minutes must be above 0"]),
        (["stages.autoencoder.batch_size=many"], ["stages.autoencoder.batch_size=many", "integer"]),
        (["stages.joint.val_every=null"], ["stages.joint.val_every=null", "integer"]),
        (["callbacks.last.minutes=often"], ["callbacks.last.minutes=often", "number"]),
        (["init_from=[a,b]"], ["init_from=", "text is wanted"]),
        (["data=folder"], ["data.train.root=VALUE"]),
        (["run=joint"], ["'run=[joint]'"]),
        (["run=[1]"], ["run=[1]", "autoencoder, transform, joint"]),
        (["model.autoencoder.widths=32"], ["'model.autoencoder.widths=[32]'"]),
        (["stages.joint.rate.lambdas=7.5"], ["'stages.joint.rate.lambdas=[7.5]'"]),
        (["stages.autoencoder.betas=[0.9]"], ["betas=[0.9]", "required"]),
        (["stages.autoencoder.lr=fast"], ["stages.autoencoder.lr=fast", "number"]),
        (["stages.joint.adversary.norm=none"], ["adversary.norm=none", "'group' or 'spectral'"]),
        (["data=folder", "data.train.root=2024"], ["data.train.root=2024", "'data.train.root=\"2024\"'"]),
        (["data=folder", "data.train.root=[1,x]"], ['data.train.root=["1", "x"]']),
        (["data.train._target_=glc_train.data.Nothing"], ["data.train._target_", "glc_train.data.Nothing"]),
        (["trainer=gpu"], ["trainer.accelerator=gpu", "trainer=cpu"]),
        (["trainer.devices=0"], ["0"]),
        (["trainer.max_epochs=few"], ["trainer.max_epochs=few", "integer"]),
        (["trainer.log_every_n_steps=often"], ["trainer.log_every_n_steps=often", "integer"]),
        (["trainer.deterministic=perhaps"], ["trainer.deterministic=perhaps"]),
        (["callbacks.summary.max_depth=deep"], ["callbacks.summary.max_depth=deep", "integer"]),
    ],
)
def test_one_sentence(override: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in ("cuda", "mps"):
        monkeypatch.setattr(f"torch.{backend}.is_available", lambda: False)
        monkeypatch.setattr(f"torch.{backend}.device_count", lambda: 0)
    with pytest.raises((TrainingError, ValueError, OSError)) as caught:
        train([*tiny_overrides(tmp_path / "out", 1), *override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not list((tmp_path / "out").rglob("*.ckpt"))


class Broken:
    """A loss of a user's own with a mistake in it."""

    def __init__(self) -> None:
        raise KeyError("boom")


def test_a_mistake_in_a_class_of_ones_own_keeps_its_traceback(tmp_path: Path) -> None:
    target = f"{__name__}.{Broken.__name__}"
    with pytest.raises(InstantiationException) as caught:
        train([*curve_overrides(tmp_path, 1), "run=[autoencoder]", f"stages.autoencoder.picture._target_={target}"])
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("data.train.exclude=a", "a list is wanted, give 'data.train.exclude=[a]'"),
        ("data.train.exclude=[7]", "text is wanted, give 'data.train.exclude=[\"7\"]'"),
        ("data.train.strides=2", "a list is wanted, give 'data.train.strides=[2]'"),
        (
            "stages.pixels.clip.frame_weights=1",
            "a list is wanted, give 'stages.pixels.clip.frame_weights=[1]'",
        ),
    ],
)
def test_lists_of_a_video_codec(override: str, advice: str) -> None:
    with pytest.raises(TrainingError) as caught:
        check_options(composed(["experiment=glc_video", "trainer=cpu", "data.train.root=x", override]))
    assert str(caught.value) == f"{override}: {advice}"


def test_a_network_that_cannot_be_found(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^_target_=mine\.Net: .*; give MODULE\.CLASS"):
        run_recipe(composed([*tiny_overrides(tmp_path, 1), "model.autoencoder._target_=mine.Net"]))


def test_what_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    config = composed([*tiny_overrides(tmp_path, 1), "data=folder", "name=???"])
    with pytest.raises(TrainingError, match=r"^data\.train\.root, name has no value: .* name=VALUE$"):
        run_recipe(config)


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_what_our_experiments_say_is_of_its_kind(experiment: str) -> None:
    config = composed([f"experiment={experiment}", "trainer=cpu"])
    for option in OmegaConf.missing_keys(config):
        OmegaConf.update(config, option, "somewhere")
    check_options(config)


def test_other_optimisers_than_those_of_the_checkpoint(tmp_path: Path) -> None:
    overrides = [*curve_overrides(tmp_path, 1), "run=[autoencoder]", "trainer.log_every_n_steps=1"]
    train(overrides)
    more = "stages.autoencoder.steps=2"
    muon = [
        "stages.autoencoder.muon_lr=1e-3",
        "stages.autoencoder.muon_for=autoencoder",
    ]
    other = {
        r"AdamW and Muon \(muon_for=autoencoder\) and AdamW of the disc.*: give": muon,
        r"trains with AdamW: give": ["stages.autoencoder.adversary=null"],
    }
    for words, changes in other.items():
        with pytest.raises(TrainingError, match=words) as refused:
            train([*overrides, more, *changes])
        assert "\n" not in str(refused.value)
    last = tmp_path / "autoencoder" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["optimisers"]  # as of an earlier version
    torch.save(checkpoint, last)
    train([*overrides, more])


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
