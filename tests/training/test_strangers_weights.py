"""What a stranger wrote into the configuration of a weights file is never resolved, built or handed on."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from glc_train.training import TrainingError
from glc_train.training.family import VideoFamily
from glc_train.weights import build_codec, save_codec
from tests.training_harness import ROOT, composed, tiny_video_overrides

SECRET = "${oc.env:GLC_TEST_SECRET}"


def checked(tmp_path: Path, change: dict[str, Any], option: str) -> Any:
    """The composed configuration of a video codec over a file whose configuration has `change` merged into it."""
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / "tiny.yaml"))
    codec = build_codec(config)
    for part, values in change.items():
        config[part] = config[part] | values if isinstance(values, dict) else values
    save_codec(codec, config if option == "image" else {"image": config}, tmp_path / "strange.safetensors")
    whole = composed([*tiny_video_overrides(tmp_path / "out", 1), f"{option}={tmp_path / 'strange.safetensors'}"])
    VideoFamily().check(whole)
    return whole


@pytest.mark.parametrize("option", ["image", "init_from"])
@pytest.mark.parametrize(
    "change",
    [
        {"transform": {"context": SECRET}},
        {"transform": {"rdoq": [0.1, SECRET]}},
        {"autoencoder": {"widths": {SECRET: 1}}},
        {"autoencoder": {"codes": SECRET}},
    ],
)
def test_text_where_a_number_belongs_is_refused(
    change: dict[str, Any], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLC_TEST_SECRET", "hunter2")
    with pytest.raises((TrainingError, ValueError)) as refused:
        checked(tmp_path, change, option)
    assert "\n" not in str(refused.value)
    assert "strange.safetensors" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("change", [{"_target_": SECRET}, {"note": SECRET}, {"autoencoder": {"_target_": SECRET}}])
def test_what_no_part_of_a_codec_takes_is_left_in_the_file(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLC_TEST_SECRET", "hunter2")
    try:
        config = checked(tmp_path, change, "image")
    except ValueError as refused:
        assert "hunter2" not in str(refused)
    else:
        assert "hunter2" not in OmegaConf.to_yaml(config, resolve=True)
        assert set(config.model) == {"autoencoder", "transform"}
        assert config.model.transform.channels == 32
