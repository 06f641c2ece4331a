"""Loading the published pair of models, made as small as the tiny ones: names and paths are what is tested."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.measures import model_config
from glc_train import weights
from glc_train.autoencoder import VQVAE
from glc_train.codecs import GOP, ImageCodec, VideoCodec
from glc_train.transform import VideoTransform
from glc_train.weights import (
    WeightsError,
    build_codec,
    build_video,
    load_any_codec,
    load_codec,
    load_video,
    load_video_codec,
    read_config,
    save_codec,
)
from tests.golden_model import published_name
from tests.golden_video_model import PUBLISHED_VIDEO


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return model_config()


@pytest.fixture
def pair(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> VideoCodec:
    video = model_config("video/tiny")
    autoencoder = {k: v for k, v in config["autoencoder"].items() if k != "_target_"}
    del video["_target_"]
    monkeypatch.setattr(weights, "VQVAE", lambda **given: VQVAE(**(given or autoencoder)))
    monkeypatch.setattr(weights, "VideoTransform", lambda: VideoTransform(**video))
    return VideoCodec(build_codec(config), VideoTransform(**video), VQVAE(**autoencoder))


@pytest.fixture
def image_path(pair: VideoCodec, config: dict[str, Any], tmp_path: Path) -> Path:
    levels = {"transform": config["transform"] | {"quality_levels": 64}}
    save_codec(pair.image, config | levels, tmp_path / "image.safetensors")
    return tmp_path / "image.safetensors"


@pytest.fixture
def published(pair: VideoCodec) -> dict[str, Tensor]:
    return {
        published_name(pair, name, PUBLISHED_VIDEO): p.detach().clone()
        for name, p in pair.named_parameters()
        if not name.startswith("image.")
    }


@pytest.mark.parametrize("nesting", [(), ("state_dict",), ("net",)])
def test_the_pair_loads(
    pair: VideoCodec, image_path: Path, published: dict[str, Tensor], tmp_path: Path, nesting: tuple[str, ...]
) -> None:
    content: Any = published
    for key in nesting:
        content = {key: content}
    torch.save(content, tmp_path / "video.pth")
    loaded = load_video_codec(image_path, tmp_path / "video.pth", dtype=torch.bfloat16)
    ours, theirs = loaded.state_dict(), pair.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.image.compute_dtype == torch.bfloat16
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_four_quality_levels_become_64(config: dict[str, Any], published: dict[str, Tensor], tmp_path: Path) -> None:
    save_codec(build_codec(config), config, tmp_path / "image.safetensors")
    torch.save(published, tmp_path / "video.pth")
    loaded = load_video_codec(tmp_path / "image.safetensors", tmp_path / "video.pth", dtype=torch.bfloat16)
    assert loaded.quality_levels == loaded.image.quality_levels == 64
    assert loaded.image.compute_dtype == torch.bfloat16


def test_a_file_that_does_not_fit_says_what(image_path: Path, published: dict[str, Tensor], tmp_path: Path) -> None:
    del published["y_q_enc"]
    published["temporal_cond.weight"] = torch.zeros(1)
    published["hyper_tokenizer.extra"] = torch.zeros(1)
    torch.save(published, tmp_path / "video.pth")
    with pytest.raises(WeightsError) as caught:
        load_video_codec(image_path, tmp_path / "video.pth")
    text = str(caught.value)
    assert "video.pth does not fit" in text
    assert "1 missing: transform.analysis.gain" in text
    assert "1 unexpected: transform.tokenizer.extra" in text
    assert "1 of wrong shape: transform.tokenizer.condition.weight (1,)" in text


def test_files_in_the_wrong_place(image_path: Path, published: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(published, tmp_path / "video.pth")
    torch.save({"q_enc": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"video\.pth holds the published GLC video weights"):
        load_codec(tmp_path / "video.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold the published GLC video weights"):
        load_video_codec(image_path, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"no weights file at .*none\.pth"):
        load_video_codec(image_path, tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="no weights file at"):
        load_video_codec(tmp_path / "none.safetensors", tmp_path / "video.pth")


def test_an_image_model_of_another_size(config: dict[str, Any], published: dict[str, Tensor], tmp_path: Path) -> None:
    other = config | {"autoencoder": config["autoencoder"] | {"patch": 2}}
    codec: ImageCodec = build_codec(other)
    save_codec(codec, other, tmp_path / "other.safetensors")
    torch.save(published, tmp_path / "video.pth")
    with pytest.raises(WeightsError, match=r"other\.safetensors does not fit the published video model.*1/16"):
        load_video_codec(tmp_path / "other.safetensors", tmp_path / "video.pth")


# ------------------------------------------------------------------ our own packages


@pytest.fixture
def whole(config: dict[str, Any]) -> dict[str, Any]:
    """Configuration of a video codec."""
    image = config | {"transform": config["transform"] | {"quality_levels": 64}}
    video = model_config("video/tiny")
    gop = {"intra_period": 12, "pattern": [0, 2], "reset_interval": 5}
    return {"image": image, "transform": video, "own_autoencoder": True, "gop": gop}


@pytest.mark.parametrize("own", [False, True])
def test_a_package_holds_the_whole_video_codec(whole: dict[str, Any], own: bool, tmp_path: Path) -> None:
    whole["own_autoencoder"] = own
    codec = build_video(whole)
    codec.transform.z_counts.copy_(torch.arange(64) + 1)
    save_codec(codec, whole, tmp_path / "w.safetensors")
    for load in (load_video, load_any_codec):
        loaded = load(tmp_path / "w.safetensors", dtype=torch.bfloat16)
        assert isinstance(loaded, VideoCodec)
        ours, theirs = loaded.state_dict(), codec.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert (loaded.own_autoencoder is not None) == own
        assert loaded.gop == GOP(12, (0, 2), 5)
        assert loaded.image.compute_dtype == torch.bfloat16
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())
    assert read_config(tmp_path / "w.safetensors") == whole
    with pytest.raises(WeightsError, match="holds a video codec where an image codec is asked for"):
        load_codec(tmp_path / "w.safetensors")


def test_either_kind_is_told_by_the_file(config: dict[str, Any], tmp_path: Path) -> None:
    save_codec(build_codec(config), config, tmp_path / "image.safetensors")
    assert isinstance(load_any_codec(tmp_path / "image.safetensors"), ImageCodec)
    with pytest.raises(WeightsError, match="holds an image codec where a video codec is asked for"):
        load_video(tmp_path / "image.safetensors")
    torch.save({"vqgan.quantize.embedding.weight": torch.zeros(1)}, tmp_path / "release.pth")
    assert read_config(tmp_path / "release.pth") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": 5}, "no section image"),
        ({"image": {}}, "no section autoencoder"),
        ({"transform": None}, "no section transform"),
        ({"transform": {"channels": "many"}}, r"model\.transform"),
        ({"gop": {"pattern": []}}, r"model\.gop\.pattern must be a list"),
        ({"gop": {"period": 3}}, r"model\.gop has no setting 'period'"),
        ({"gop": {"pattern": [7]}}, "does not fit its image codec: .* goes beyond"),
    ],
)
def test_configurations_from_strangers(whole: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        build_video(whole | change)
