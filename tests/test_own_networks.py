"""Networks of the user's own: built from the user's configuration, and from a file only where the user names them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measures import model_config
from glc_train import cli
from glc_train.autoencoder import VQVAE
from glc_train.codecs import ImageCodec
from glc_train.data import render_picture
from glc_train.media import write_picture
from glc_train.transform import ImageTransform, VideoTransform
from glc_train.weights import (
    WeightsError,
    build_any,
    build_codec,
    build_video,
    foreign_classes,
    load_any_codec,
    load_codec,
    load_video,
    read_config,
    save_codec,
)


class Squared(VQVAE):
    """An auto-encoder with a setting of its own."""

    def __init__(self, gain: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.gain = torch.nn.Parameter(torch.tensor(gain))


class Louder(ImageTransform):
    """A transform codec with a setting of its own."""

    def __init__(self, volume: list[int], **settings: Any) -> None:
        super().__init__(**settings)
        self.volume = volume


class Longer(VideoTransform):
    """A transform codec of conditional frames."""


class Whole(ImageCodec):
    """A codec made of both parts."""


class Broken(VQVAE):
    """A class with a mistake in it."""

    def __init__(self, **settings: Any) -> None:
        raise TypeError("a mistake of its author")


HERE = __name__
NAMES = [f"{HERE}.{name}" for name in ("Louder", "Squared", "Whole")]


@pytest.fixture
def config() -> dict[str, Any]:
    tiny = model_config()
    autoencoder = tiny["autoencoder"] | {"_target_": f"{HERE}.Squared", "gain": 2.0}
    transform = tiny["transform"] | {"_target_": f"{HERE}.Louder", "volume": [3, 4]}
    return {"_target_": f"{HERE}.Whole", "autoencoder": autoencoder, "transform": transform}


@pytest.fixture
def path(config: dict[str, Any], tmp_path: Path) -> Path:
    save_codec(build_codec(config, trusted=True), config, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_configuration_of_ones_own_builds_ones_own_classes(config: dict[str, Any]) -> None:
    codec = build_any(config, trusted=True)
    assert type(codec) is Whole
    assert type(codec.autoencoder) is Squared
    assert codec.autoencoder.gain.item() == 2
    assert type(codec.transform) is Louder
    assert codec.transform.volume == [3, 4]
    assert foreign_classes(config) == NAMES
    picture = torch.zeros(1, 3, 32, 32)
    assert codec.reconstruct(picture, 0).x_hat.shape == picture.shape


def test_an_encoder_with_a_block_more_codes_pictures(config: dict[str, Any]) -> None:
    codec = build_codec(config, trusted=True)
    codec.autoencoder.encoder.blocks.append(torch.nn.Sequential(torch.nn.GELU()))
    picture = render_picture(40, 56, 0)
    assert codec.decompress(codec.compress(picture, 0)).shape == picture.shape


def test_a_file_builds_them_where_they_are_named(path: Path, config: dict[str, Any]) -> None:
    assert read_config(path, NAMES) == config
    loaded = load_codec(path, trusted=NAMES)
    assert [type(loaded), type(loaded.autoencoder), type(loaded.transform)] == [Whole, Squared, Louder]
    assert loaded.fingerprint == load_any_codec(path, trusted=NAMES).fingerprint


@pytest.mark.parametrize("missing", range(3))
def test_a_file_builds_none_that_is_not_named(path: Path, missing: int) -> None:
    named = NAMES[:missing] + NAMES[missing + 1 :]
    for read in (lambda: load_any_codec(path, trusted=named), lambda: read_config(path, named)):
        with pytest.raises(WeightsError) as error:
            read()
        assert str(path) in str(error.value)
        assert f"trusted=[{NAMES[missing]}]" in str(error.value)


def test_clips_have_them_too(config: dict[str, Any], tmp_path: Path) -> None:
    transform = model_config("video/tiny") | {"_target_": f"{HERE}.Longer"}
    whole = {"image": config, "transform": transform, "own_autoencoder": True, "gop": {}}
    with pytest.raises(WeightsError, match="Squared"):
        build_video(whole)
    codec = build_video(whole, trusted=True)
    assert [type(codec.transform), type(codec.autoencoder)] == [Longer, Squared]
    assert foreign_classes(whole) == [f"{HERE}.Longer", *NAMES]
    save_codec(codec, whole, tmp_path / "w.safetensors")
    assert type(load_video(tmp_path / "w.safetensors", trusted=foreign_classes(whole)).transform) is Longer
    with pytest.raises(WeightsError, match="Longer"):
        load_video(tmp_path / "w.safetensors", trusted=NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "no_such_module.Net"}, r"_target_=no_such_module\.Net: No module named .*PYTHONPATH"),
        ({"_target_": f"{HERE}.NoSuchClass"}, "NoSuchClass"),
        ({"_target_": f"{HERE}.Squared"}, r"model\.autoencoder: missing a required argument: 'gain'"),
    ],
)
def test_what_is_wrong_is_said(config: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        build_codec(config | {"autoencoder": change}, trusted=True)


def test_a_mistake_in_ones_own_class_keeps_its_traceback(config: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="a mistake of its author"):
        build_codec(config | {"autoencoder": {"_target_": f"{HERE}.Broken"}}, trusted=True)


def test_settings_of_ones_own_class_are_plain_values(config: dict[str, Any]) -> None:
    """Nothing below a section is built, whatever it names."""
    nested = {"_target_": "os.system", "command": "false"}
    codec: Any = build_codec(config | {"transform": config["transform"] | {"volume": nested}}, trusted=True)
    assert codec.transform.volume == nested


def test_glc_takes_them_where_they_are_named(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "a.png", render_picture(32, 32, 1))
    named = [word for name in NAMES for word in ("--trusted", name)]
    command = ["compress", str(tmp_path / "a.png"), str(tmp_path / "a.glc"), "--weights", str(path)]
    assert cli.main(command) == 1
    assert "--trusted test" in capsys.readouterr().err
    assert not (tmp_path / "a.glc").exists()
    assert cli.main([*command, *named]) == 0
    assert cli.main(["info", str(path), *named]) == 0
