"""What a weights file says of its model becomes part of a run's configuration, which is kept and published."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from glc_train.training.start import find_model
from glc_train.weights import WeightsError
from glc_train.weights.reading import FORMAT

SECRET = "${oc.env:GLC_TEST_SECRET}"


def run_with(path: Path, model: dict[str, Any]) -> Any:
    save_file({"x": torch.zeros(1)}, path, metadata={"format": FORMAT, "config": json.dumps(model)})
    video = {"transform": {"quality_levels": 64}}
    run: dict[str, Any] = {
        "image": str(path),
        "init_from": None,
        "run": [],
        "out": str(path.parent),
        "model": {},
        "video": video,
    }
    return OmegaConf.create(run)


def test_no_text_of_a_file_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLC_TEST_SECRET", "swordfish")
    good: dict[str, Any] = {"_target_": "glc_train.a", "autoencoder": {"codes": 8}, "transform": {"context": "none"}}
    for place in ("_target_", "autoencoder", "transform", "surplus"):
        for hostile in (SECRET, {"_target_": SECRET}, {"context": SECRET}, {"codes": [SECRET]}, {SECRET: 1}):
            config = run_with(tmp_path / "w.safetensors", good | {place: hostile})
            with pytest.raises(WeightsError) as error:
                find_model(config, [])
            assert "swordfish" not in str(error.value)
    config = run_with(tmp_path / "w.safetensors", good)
    find_model(config, [])
    transform = {"context": "none", "quality_levels": 64}
    assert OmegaConf.to_container(config.model, resolve=True) == good | {"transform": transform}
