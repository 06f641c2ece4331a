"""Weights to and from a hub, which is a server on this machine, and a folder laid out like a repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import glc_train
from glc_train import WeightsError, cli, extras, from_pretrained, load_codec, save_pretrained
from glc_train.data import render_picture
from glc_train.media import write_picture
from glc_train.weights.hub import is_address
from tests.hub_server import Hub
from tests.training_harness import tiny_image
from tests.web_server import answering

# Where the hub is and where the cache lies is read when huggingface_hub is imported.
STEPS = """
import os, shutil, sys
from pathlib import Path
import glc_train
from glc_train import from_pretrained, load_codec, push_to_hub

def refused(function, *arguments, **more):
    try:
        function(*arguments, **more)
    except glc_train.WeightsError as error:
        return str(error)
    raise AssertionError("not refused")

first, second = sys.argv[1:]
address = push_to_hub(first, "owner/name", licence="mit")
old = address.rpartition("/")[2]
push_to_hub(second, "owner/name", card="# Newer")
wanted = [load_codec(path).weights_checksum() for path in (first, second)]
assert load_codec("hf://owner/name").weights_checksum() == wanted[1]
assert load_codec(Path("hf://owner/name@" + old)).weights_checksum() == wanted[0]
assert from_pretrained("owner/name", revision=old).weights_checksum() == wanted[0]
assert from_pretrained("owner/name", local_files_only=True).weights_checksum() == wanted[1]
print(refused(load_codec, "hf://owner/other"))
print(refused(load_codec, "hf://owner/name@v9"))
print(refused(load_codec, "hf://owner"))
print(refused(from_pretrained, "owner/name", cache_dir="elsewhere", local_files_only=True))
(model,) = Path(os.environ["HF_HOME"]).glob(f"hub/*/snapshots/{old}/model.safetensors")
model.resolve().write_bytes(b"damaged")
print(refused(from_pretrained, "owner/name", revision=old))
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tiny_image(tmp_path / "first.safetensors")


def test_weights_go_to_a_hub_and_come_back_by_name_and_revision(weights: Path, tmp_path: Path) -> None:
    codec = load_codec(weights)
    with torch.no_grad():
        next(codec.transform.parameters()).add_(1.0)
    second = tmp_path / "second.safetensors"
    glc_train.save_codec(codec, glc_train.weights.read_config(weights) or {}, second)
    Hub.commits.clear()
    with answering(Hub) as endpoint:
        variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_x"}
        variables |= {"PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        run = subprocess.run(
            [sys.executable, "-c", STEPS, weights, second],
            env=os.environ | variables, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr
    absent, unknown, short, unreached, damaged = run.stdout.splitlines()
    assert absent.startswith("hf://owner/other: there is no such repository")
    assert unknown == "hf://owner/name@v9: there is no such revision"
    assert short == "hf://owner: give hf://OWNER/NAME, or hf://OWNER/NAME@REVISION"
    assert unreached.startswith("hf://owner/name: it cannot be reached, and is not in the cache")
    assert "has not the SHA-256 of config.json" in damaged
    assert Hub.commits[0].keys() == {"model.safetensors", "config.json", "README.md"}
    assert Hub.commits[0]["README.md"].startswith(b"---\nlicense: mit\nlibrary_name: glc_train\n")
    assert Hub.commits[1]["README.md"].endswith(b"---\n\n# Newer")


def test_a_folder_laid_out_like_a_repository_is_one(weights: Path, tmp_path: Path) -> None:
    weights.with_name("model_card.md").write_text("# The card of the training")
    save_pretrained(weights, tmp_path / "folder")
    assert from_pretrained(tmp_path / "folder").weights_checksum() == load_codec(weights).weights_checksum()
    assert (tmp_path / "folder/README.md").read_text().endswith("# The card of the training")
    config = json.loads((tmp_path / "folder/config.json").read_text())
    assert config["kind"] == "image"
    (tmp_path / "folder/config.json").write_text(json.dumps(config | {"sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="has not the SHA-256"):
        from_pretrained(tmp_path / "folder")
    (tmp_path / "folder/config.json").write_text("[")
    with pytest.raises(WeightsError, match="no configuration of weights"):
        from_pretrained(tmp_path / "folder")
    (tmp_path / "folder/config.json").unlink()
    with pytest.raises(WeightsError, match=r"lacks config\.json"):
        from_pretrained(tmp_path / "folder")


def test_without_the_extra_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    write_picture(tmp_path / "photo.png", render_picture(32, 32, 1))
    arguments = ["compress", str(tmp_path / "photo.png"), str(tmp_path / "photo.glc"), "--weights", "hf://owner/name"]
    assert cli.main(arguments) == 1
    sentence = "hf:// needs huggingface_hub: pip install 'glc_train[hub]'\n"
    assert capsys.readouterr().err.endswith(sentence)


def test_addresses_are_told_from_files() -> None:
    assert is_address("hf://owner/name")
    assert is_address(Path("hf://owner/name"))
    assert not is_address("owner/name")
    assert not is_address(Path("hf/x.safetensors"))


def test_torch_hub_loads_the_codecs(repository: Path, weights: Path) -> None:
    codec = torch.hub.load(str(repository), "glc_image", source="local", weights=str(weights), dtype="float32")
    assert codec.weights_checksum() == load_codec(weights).weights_checksum()
