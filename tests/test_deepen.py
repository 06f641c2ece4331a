"""More residual blocks for a trained decoder: the same pictures, until it is trained on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from glc_train import load_codec
from glc_train.weights import WeightsError, build_codec, save_codec
from glc_train.weights.deepen import deepen


def _config(**autoencoder: Any) -> dict[str, Any]:
    common = {"widths": [8, 16], "latent_channels": 8, "codes": 16, "res_blocks": 1, "patch": 2, "groups": 4}
    transform = {"latent_channels": 8, "channels": 8, "hyper_channels": 8, "codes": 8, "quality_levels": 2, "depth": 1}
    return {"autoencoder": {**common, "attention": False, **autoencoder}, "transform": transform}


def _written(path: Path, **autoencoder: Any) -> Path:
    torch.manual_seed(0)
    codec = build_codec(_config(**autoencoder))
    for parameter in codec.parameters():  # no block is its skip alone
        torch.nn.init.normal_(parameter, std=0.1)
    save_codec(codec, _config(**autoencoder), path, half=True)
    return path


def test_a_deeper_decoder_paints_the_same_until_it_is_trained(tmp_path: Path) -> None:
    source, target = _written(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    deepen(source, target, [3, 4])
    before, after = load_codec(source), load_codec(target)
    assert len(after.autoencoder.decoder.blocks) == len(before.autoencoder.decoder.blocks) + 3
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        one, other = before(x, 1), after(x, 1)
    assert torch.equal(one.bits_y, other.bits_y)
    torch.testing.assert_close(one.x_hat, other.x_hat)
    assert float(one.x_hat.std()) > 0


def test_what_cannot_be_deepened_is_refused(tmp_path: Path) -> None:
    source, target = _written(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    with pytest.raises(WeightsError, match="more residual blocks at some level"):
        deepen(source, target, [1, 4])
    with pytest.raises(WeightsError, match="decoder_blocks"):
        deepen(source, target, [4])
    with pytest.raises(WeightsError, match="attention"):
        deepen(_written(tmp_path / "c.safetensors", attention=True), target, [3, 3])
    assert not target.exists()


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "glc_train.weights.deepen",
        str(tmp_path / "none.safetensors"),
        "b.safetensors",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "none.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
