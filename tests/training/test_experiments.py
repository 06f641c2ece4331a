"""Every experiment composes, says what it is, and trains one step of each of its stages."""

from pathlib import Path

import pytest

from glc_train import load_codec
from glc_train.training import TrainingError
from glc_train.weights import load_video
from tests.training_harness import (
    ROOT,
    composed,
    tiny_image,
    tiny_overrides,
    tiny_stages,
    tiny_video_overrides,
    train,
    train_video,
)

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
VIDEO = [path for path in EXPERIMENTS if path.stem.startswith("glc_video")]
IMAGE = [path for path in EXPERIMENTS if path not in VIDEO]
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
NO_LPIPS = [f"stages.{stage}.picture.lpips=0" for stage in ("autoencoder", "joint")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with stages I and II, for the experiments that start from one."""
    out = tmp_path_factory.mktemp("trained")
    train([*tiny_overrides(out, 1), *NO_LPIPS, "run=[autoencoder,transform]"])
    return out


def _overrides(path: Path, out: Path) -> list[str]:
    """The tiny form of an experiment."""
    config = composed([f"experiment={path.stem}"])
    overrides = [f"experiment={path.stem}", *tiny_overrides(out, 1, ()), *tiny_stages(config)]
    crops = composed([f"experiment={path.stem}", "data=rendered"]).data.train
    of_photographs = {"scale_range", "scale_probability"}  # the tiny run has rendered pictures
    return overrides + [f"~data.train.{name}" for name in crops if name in of_photographs]


LONG = {"glc_image_small_installed": pytest.mark.slow}  # fourteen stages


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=LONG.get(path.stem, ())) for path in IMAGE])
def test_one_tiny_step(path: Path, tmp_path: Path, trained: Path) -> None:
    overrides = _overrides(path, tmp_path / "out")
    config = composed(overrides)
    stages = list(config.run or config.stages)
    if not stages[0].startswith("autoencoder"):
        before = {"transform": "autoencoder", "joint": "transform"}[stages[0]]
        overrides.append(f"init_from={trained / before / 'weights.safetensors'}")
    weights = train(overrides)
    assert sorted(folder.name for folder in weights.parent.iterdir() if folder.is_dir()) == sorted(stages)
    codec = load_codec(weights)
    kind = config.model.transform
    assert codec.quality_levels == (1 if kind is None else 4)
    if stages != ["autoencoder"] or kind is None:
        counts = codec.transform.z_counts
        assert not len(counts) or int(counts.max()) > 1, "the prior of z was not fitted"


@pytest.mark.parametrize("path", VIDEO, ids=lambda path: path.stem)
def test_one_tiny_step_of_clips(path: Path, tmp_path: Path) -> None:
    image = tiny_image(tmp_path / "image.safetensors")
    composed([f"experiment={path.stem}"])  # with its own data and model
    overrides = [f"experiment={path.stem}", *tiny_video_overrides(tmp_path / "out", 1)]
    if composed(overrides).init_from:
        before = ["experiment=glc_video_small_gpu", *tiny_video_overrides(tmp_path / "before", 1), f"image={image}"]
        overrides += [f"init_from={train_video(before)}", "++stages.pixels.predictor=null"]
    else:
        overrides.append(f"image={image}")
    config = composed(["data=rendered", *overrides])
    weights = train_video(overrides)
    assert sorted(folder.name for folder in weights.parent.iterdir() if folder.is_dir()) == sorted(
        config.run or config.stages
    )
    codec = load_video(weights)
    assert codec.quality_levels == 64
    assert (codec.own_autoencoder is not None) == config.video.own_autoencoder
    assert int(codec.transform.z_counts.max()) > 1, "the prior of z was not fitted"


def test_clips_grow_and_then_the_gradient_runs_through_them() -> None:
    stages = composed(["experiment=glc_video"]).stages
    frames = [section.frames for section in stages.values()]
    assert frames == sorted(frames)
    assert frames[:3] == [2, 3, 6]
    assert min(frames[3:]) >= 8
    assert [section.clip.cascaded for section in stages.values()] == [False, False, False, True, True]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_first_lines_say_how_to_run_it(path: Path) -> None:
    first, second, *more = path.read_text().splitlines()
    assert first == "# @package _global_"
    assert second.startswith(f"# python train.py experiment={path.stem}")
    head = [line for line in more[: next(i for i, line in enumerate(more) if not line.startswith("#"))]]
    assert any(line.startswith("# Cost: ") for line in head)
    assert any(line.startswith("# Result") for line in head)


def test_weights_of_another_transform_are_no_start_for_stage_three(trained: Path, tmp_path: Path) -> None:
    path = next(path for path in EXPERIMENTS if path.stem == "ablation_no_context")
    start = trained / "transform" / "weights.safetensors"
    with pytest.raises(ValueError, match=r"does not fit the model: .*unexpected: transform\.decoder\.context"):
        train([*_overrides(path, tmp_path / "out"), "run=[joint]", f"init_from={start}"])


def test_index_coding_has_no_transform_stages(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"leave out stage transform, as recipe=autoencoder does"):
        train([*tiny_overrides(tmp_path / "out", 1), "model.transform=null"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("trainer", ["cpu", "gpu", "ddp"])
@pytest.mark.parametrize("logger", ["csv", "[csv,wandb]"])
def test_groups_compose(model: str, trainer: str, logger: str) -> None:
    config = composed([f"model={model}", f"trainer={trainer}", f"logger={logger}"])
    assert config.model.autoencoder.latent_channels == config.model.transform.latent_channels
