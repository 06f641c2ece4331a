"""All stages of the video codec through the recipe: exports, resuming, bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glc_train.codecs import VideoCodec, expand_quality
from glc_train.training import LogError, TrainingError, VideoStage, read_objective
from glc_train.training.validation import decode_at_qualities
from glc_train.weights import WeightsError, build_codec, load_any_codec, load_codec, load_video, read_config, save_codec
from tests.moving_clips import moving_clip
from tests.training_harness import VIDEO_STAGES, composed, logged, tiny_image, tiny_video_overrides, train_video


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_image(tmp_path_factory.mktemp("image") / "image.safetensors")


@pytest.fixture(scope="module")
def run(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of all stages with an auto-encoder of its own."""
    out = tmp_path_factory.mktemp("run") / "out"
    options = ["video.own_autoencoder=true", *(f"stages.{stage}.val_every=1" for stage in ("two_frames", "pixels"))]
    train_video([*tiny_video_overrides(out, 1), f"image={image}", *options])
    return out


def test_every_stage_exports_a_whole_codec(run: Path, image: Path) -> None:
    expected = expand_quality(load_codec(image), 64).state_dict()
    for stage in VIDEO_STAGES:
        codec = load_any_codec(run / stage / "weights.safetensors")
        assert isinstance(codec, VideoCodec)
        state = codec.image.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state), "the image codec has changed"
        assert codec.gop.pattern == (0, 1, 0, 2, 0, 2, 0, 2)
        counts = codec.transform.z_counts
        # One batch of two clips, each conditional frame with 8 tokens, and one for each of the 64 codes.
        assert int(counts.sum()) == 64 + 2 * (VIDEO_STAGES[stage] - 1) * 8
        assert codec.own_autoencoder is not None
        same = torch.equal(codec.own_autoencoder.decoder.last_layer, codec.image.autoencoder.decoder.last_layer)
        assert same == (stage != "pixels"), "only the last stage trains the decoder"
    first, last = ((run / name / "weights.safetensors").read_bytes() for name in ("pixels", "."))
    assert first == last


def test_the_export_gives_what_the_stage_gave(run: Path) -> None:
    """The averaged weights of the checkpoint, the export, and the panel's figures are one codec."""
    exported, checkpoint = load_video(run / "pixels/weights.safetensors"), load_video(run / "pixels/last.ckpt")
    clip = moving_clip(4, 64, 7)[None]
    ours, theirs = exported(clip, 30), checkpoint(clip, 30)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.x_hat, b.x_hat)
        assert torch.equal(a.bits_y, b.bits_y)
    (psnr,) = logged(run / "pixels", "val/psnr/q0").values()
    with torch.no_grad():
        decoded = decode_at_qualities(exported, clip)[0].x_hat.clamp(-1, 1)
    errors = (decoded - clip[0]).square().mean((1, 2, 3)) / 4
    assert psnr == pytest.approx(float(-10 * torch.log10(errors).mean()), abs=0.02)


def test_validation_shows_frames_at_four_qualities(run: Path) -> None:
    names = {f"val/{figure}/q{q}" for figure in ("psnr", "bpp") for q in (0, 21, 42, 63)}
    (panel,) = (run / "two_frames/panels").iterdir()
    for name in names:
        assert list(logged(run / "two_frames", name)) == [1]
    picture = np.asarray(Image.open(panel))
    # Three of the four frames, each as original and at four qualities, 64 pixels wide with gaps and captions.
    assert picture.shape == (3 * (64 + 22 + 6), 5 * (64 + 6), 3)
    card = (run / "model_card.md").read_text()
    for words in ("A GLC video codec", "glc compress CLIP clip.glcv", "| clips seen | 2 of 3 frames of 64×64 pixels |"):
        assert words in card
    with pytest.raises(LogError, match="never logged"):
        read_objective(composed(["data=rendered", "recipe=video", f"out={run}", "objective=val/lpips/none"]))


def test_the_package_says_what_it_is(run: Path, image: Path) -> None:
    config = read_config(run / "weights.safetensors")
    assert config is not None
    assert set(config) == {"image", "transform", "own_autoencoder", "gop"}
    assert config["image"]["transform"]["quality_levels"] == config["transform"]["quality_levels"] == 64
    with pytest.raises(WeightsError, match=r"weights\.safetensors holds a video codec where an image codec is asked"):
        load_codec(run / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"image\.safetensors holds an image codec where a video codec is asked"):
        load_video(image)


def test_the_same_command_again_trains_nothing(run: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoStage, "losses", None)
    path = train_video([*tiny_video_overrides(run, 1), f"image={image}", "video.own_autoencoder=true"])
    assert load_video(path).quality_levels == 64


def test_a_stage_branches_off_from_a_video_codec(run: Path, tmp_path: Path) -> None:
    weights = run / "two_frames/weights.safetensors"
    overrides = [*tiny_video_overrides(tmp_path / "out", 1), f"init_from={weights}", "run=[cascade]"]
    path = train_video([*overrides, "video.own_autoencoder=true", "stages.cascade.lr=0"])
    before, after = load_video(weights).state_dict(), load_video(path).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {"transform.z_counts"}, "it started from something else"
    with pytest.raises(ValueError, match=r"unexpected: own_autoencoder"):
        train_video([*overrides, f"out={tmp_path / 'other'}"])


def test_a_run_that_was_cut_off_gives_the_curve_of_a_whole_one(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overrides(name: str) -> list[str]:
        options = ["run=[two_frames]", "callbacks.last.steps=2", "callbacks.last.minutes=null", f"image={image}"]
        return [*tiny_video_overrides(tmp_path / name, 6), *options]

    whole = load_video(train_video(overrides("whole"))).state_dict()
    losses = VideoStage.losses

    def cut(self: VideoStage, *arguments: Any) -> Any:
        if int(self.train_step) == 5:
            raise MemoryError("cut off")
        return losses(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(VideoStage, "losses", cut)
        with pytest.raises(MemoryError):
            train_video(overrides("parts"))
    assert not (tmp_path / "parts/two_frames/weights.safetensors").exists()
    resumed = load_video(train_video(overrides("parts"))).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    curves = [logged(tmp_path / name / "two_frames", "train/loss") for name in ("whole", "parts")]
    assert {step: curves[1][step] for step in (4, 5)} == {step: curves[0][step] for step in (4, 5)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"give image=FILE, its weights, or init_from=FILE"),
        (["image=/nowhere.safetensors"], r"no weights file at /nowhere\.safetensors"),
        (["image=IMAGE", "init_from=IMAGE"], r"give one of them"),
        (["init_from=IMAGE"], r"is an image codec: give image="),
        (["image=IMAGE", "run=[autoencoder]"], r"choose stages among two_frames, three_frames"),
        (["image=IMAGE", "run=[cascade]"], r"run stage six_frames first"),
        (["image=IMAGE", "stages.cascade.frames=1"], r"stages\.cascade\.frames must be at least 2, not 1"),
        (["image=IMAGE", "video.transform.latent_channels=16"], r"does not fit its image codec: .* 32 latent channels"),
        (["image=IMAGE", "video.gop.pattern=[0,7]"], r"pattern \[0, 7\] goes beyond"),
        (
            ["image=IMAGE", "run=[two_frames]", "stages.two_frames.clip.frame_weights=[1]"],
            r"each of the 3 frame types",
        ),
        (["image=INDICES"], r"indices\.safetensors has no quality levels"),
    ],
)
def test_bad_input_is_one_sentence_before_the_first_step(
    overrides: list[str], message: str, image: Path, tmp_path: Path
) -> None:
    indices = tmp_path / "indices.safetensors"
    if "image=INDICES" in overrides:
        config = {**json.loads(json.dumps(read_config(image))), "transform": None}
        save_codec(build_codec(config), config, indices)
    given = [each.replace("IMAGE", str(image)).replace("INDICES", str(indices)) for each in overrides]
    with pytest.raises((TrainingError, ValueError), match=message) as caught:
        train_video([*tiny_video_overrides(tmp_path / "out", 1), *given])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_image_codec_moves_without_its_configuration_file(image: Path, tmp_path: Path) -> None:
    """The sizes of the image codec come from its weights, whatever `model` says."""
    shutil.copy(image, tmp_path / "moved.safetensors")
    overrides = [*tiny_video_overrides(tmp_path / "out", 1), f"image={tmp_path / 'moved.safetensors'}"]
    path = train_video([*overrides, "model=small", "run=[two_frames]", "prior_batches=0"])
    codec = load_video(path)
    assert codec.own_autoencoder is None
    assert codec.autoencoder.latent_channels == 32
    assert int(codec.transform.z_counts.max()) == 1
