"""Weights by name, version and fingerprint; a video codec beside the image codec that its file leaves out."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.measures import model_config
from glc_train import cli
from glc_train.backbones import BackboneError, find_backbone
from glc_train.codecs import ClipFormat, ImageCodec, VideoCodec, compress_clip
from glc_train.data import render_picture
from glc_train.layers import exact_copy
from glc_train.media import write_picture
from glc_train.weights import (
    CHECKPOINT_CONFIG,
    WeightsError,
    build_codec,
    build_video,
    find_codec,
    load_any_codec,
    load_codec,
    load_video,
    read_config,
    save_codec,
    separate,
    store,
)
from glc_train.weights.packing import packed, unpacked


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return model_config()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The folders of the store, all empty."""
    found = {name: tmp_path / name for name in ("first", "second", "installed", "cache")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("GLC_WEIGHTS", os.pathsep.join([str(found["first"]), str(found["second"])]))
    monkeypatch.setattr(store, "PRETRAINED", found["installed"])
    monkeypatch.setenv("GLC_CACHE", str(found["cache"]))
    return found


def image(config: dict[str, Any], seed: int) -> ImageCodec:
    torch.manual_seed(seed)
    return build_codec(config)


def put(config: dict[str, Any], seed: int, path: Path, name: str | None = None, version: int | None = None) -> int:
    """Writes weights; returns their fingerprint."""
    codec = image(config, seed)
    save_codec(codec, config, path, name=name, version=version)
    return codec.fingerprint


# ------------------------------------------------------------------ names and fingerprints


def test_names_lead_to_weights_in_every_folder(config: dict[str, Any], places: dict[str, Path]) -> None:
    marks = {
        "first": put(config, 1, places["second"] / "any.safetensors", "first", 3),
        "two": put(config, 2, places["installed"] / "two.safetensors"),
        "two@7": put(config, 3, places["cache"] / "x.safetensors", "two", 7),
        "three@2": put(config, 4, places["first"] / "three@2.safetensors"),
    }
    for name in ("first", "first@3", "two@7", "three", "three@2"):
        assert load_codec(name).fingerprint == marks[{"first@3": "first", "three": "three@2"}.get(name, name)]
    assert load_codec("two").fingerprint == marks["two@7"]  # the highest version
    assert read_config("three") == config
    for name in ("two@1", "four", "first@", "fir", "first@3.safetensors"):
        with pytest.raises(WeightsError, match=f"no weights file at {name}: give the path"):
            load_codec(name)
    with pytest.raises(WeightsError, match=r"or one of these names: three@2, first@3, two, two@7$"):
        load_codec("four")


def test_a_file_at_the_path_comes_before_a_name(
    config: dict[str, Any], places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(config, 1, places["first"] / "mine.safetensors", "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    assert (
        load_codec("mine.safetensors" if put(config, 2, Path("mine.safetensors")) else "").fingerprint
        == image(config, 2).fingerprint
    )


def test_a_fingerprint_leads_to_its_weights(config: dict[str, Any], places: dict[str, Path]) -> None:
    marks = [put(config, seed, places[folder] / f"{seed}.safetensors") for seed, folder in enumerate(places)]
    put(config, 9, places["first"] / "0.safetensors")  # over the first
    save_file({"x": torch.zeros(3)}, places["first"] / "vgg16_features.safetensors")
    (places["cache"] / "damaged.safetensors").write_bytes(b"no such thing")
    for mark in marks[1:]:
        assert find_codec(mark, "image").fingerprint == mark
        with pytest.raises(WeightsError, match="was written with the weights fingerprint"):
            find_codec(mark, "video")
    with pytest.raises(WeightsError, match=f"a.glc was written with the weights fingerprint {marks[0]:04x}, which are"):
        find_codec(marks[0], "image", name="a.glc")


def test_looking_for_weights_reads_no_tensor(
    config: dict[str, Any], places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        put(config, seed, places["first"] / f"{seed}.safetensors")
    opened: list[Path] = []

    def note(path: Path, _: object) -> None:
        opened.append(path)
        raise InterruptedError

    monkeypatch.setattr("glc_train.weights.read_package", note)
    with pytest.raises(InterruptedError):
        find_codec(image(config, 2).fingerprint, "image")
    assert opened == [places["first"] / "2.safetensors"]


def test_a_file_that_is_not_what_it_says_is_passed_over(config: dict[str, Any], places: dict[str, Path]) -> None:
    mark = put(config, 1, places["installed"] / "right.safetensors")
    put(config, 2, places["first"] / "wrong.safetensors")
    with safe_open(places["installed"] / "right.safetensors", framework="pt") as file:
        claim = file.metadata()
    with safe_open(places["first"] / "wrong.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, places["first"] / "wrong.safetensors", metadata=claim)
    assert find_codec(mark, "image").fingerprint == mark


def test_a_release_that_is_missing_is_named(places: dict[str, Path]) -> None:
    with pytest.raises(WeightsError) as caught:
        find_codec(0xFFF4, "image", name="old.glc")
    said = str(caught.value)
    assert said.startswith(
        "old.glc was written with the weights glc_image_small@1, fingerprint fff4, which are in none"
    )
    assert str(places["second"]) in said
    assert said.endswith("then `glc weights add FILE`")
    assert "\n" not in said


def test_the_installed_codec_is_that_of_the_kind(config: dict[str, Any], places: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match="carries no weights of a video codec: name an export or checkpoint"):
        load_video()
    put(config, 1, places["installed"] / "a@1.safetensors")
    newer = put(config, 2, places["installed"] / "a.safetensors", version=2)
    assert load_codec().fingerprint == load_any_codec().fingerprint == newer
    with pytest.raises(WeightsError, match="no weights of a video codec"):
        load_video()
    put(config, 3, places["installed"] / "b.safetensors")
    with pytest.raises(WeightsError, match="Which weights are meant"):
        load_codec()


def test_half_precision_has_its_own_fingerprint(config: dict[str, Any], places: dict[str, Path]) -> None:
    codec = image(config, 1)
    save_codec(codec, config, places["cache"] / "half.safetensors", half=True)
    found = store.described(places["cache"] / "half.safetensors")
    assert found is not None
    assert found.checksum == load_codec("half").weights_checksum() != codec.weights_checksum()


def test_every_installed_file_is_what_it_says() -> None:
    found = list(store.stored([store.PRETRAINED]))
    assert {"glc_image_small"} <= {each.name for each in found}
    known = {store.label(each.name, each.version): each.checksum for each in store.RELEASED}
    for each in found:
        assert load_any_codec(each.path).weights_checksum() == each.checksum
        assert each.checksum == known.get(each.label), f"{each.label} has no line in glc_train/weights/released.py"


def test_backbones_are_looked_for_in_each_folder(places: dict[str, Path]) -> None:
    (places["second"] / "vgg16_features.safetensors").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"second/vgg16_features.safetensors cannot be read as weights"):
        find_backbone("vgg16", download=False)


# ------------------------------------------------------------------ video codecs without their image codec


@pytest.fixture
def whole(config: dict[str, Any], places: dict[str, Path], tmp_path: Path) -> Path:
    """An export of a video codec, trained over an image codec of four qualities, which is installed."""
    base = image(config, 1)
    save_codec(base, config, places["installed"] / "base.safetensors", name="base", version=1)
    levels = {"transform": config["transform"] | {"quality_levels": 64}}
    settings = {"image": config | levels, "transform": model_config("video/tiny")}
    codec = VideoCodec(base, build_video(settings).transform)
    codec.transform.z_counts.copy_(torch.arange(64) + 1)
    save_codec(codec, settings, tmp_path / "weights.safetensors", training={"predictor": {"x": torch.zeros(9)}})
    return tmp_path / "weights.safetensors"


def test_a_separated_video_codec_works_beside_its_image_codec(
    whole: Path, places: dict[str, Path], config: dict[str, Any]
) -> None:
    out = places["installed"] / "clips.safetensors"
    separate.separate(whole, out)
    before, after = load_video(whole), load_video()
    with safe_open(out, framework="pt") as file:
        names = list(file.keys())
        kept = sum(file.get_tensor(name).nbytes for name in names)
    assert not [name for name in names if name.startswith(("image.", "training."))]
    assert kept < 1.4 * sum(p.numel() for p in before.transform.parameters())
    assert read_config(out) == read_config(whole)
    found = store.described(out)
    assert found is not None
    assert (found.label, found.checksum, found.image) == (
        "clips@1", after.weights_checksum(), load_codec("base").weights_checksum(),
    )  # fmt: skip
    for name, tensor in before.state_dict().items():
        rounded = after.state_dict()[name]
        if name.startswith("image.") or not tensor.is_floating_point():
            assert torch.equal(rounded, tensor), name
        else:
            scale = tensor.abs().amax(tuple(range(1, tensor.ndim)), keepdim=True) if tensor.ndim == 4 else tensor.abs()
            assert bool(((rounded - tensor).abs() <= scale / 127 + 1e-6).all()), name


def test_exact_arithmetic_is_the_same_with_packed_kernels(whole: Path, places: dict[str, Path]) -> None:
    """What packing rounds, files would have rounded alike."""
    separate.separate(whole, places["cache"] / "clips.safetensors")
    before, after = (exact_copy(load_video(path).transform.decoder).state_dict() for path in (whole, "clips"))
    kernels = [name for name in before if name.endswith(".weight")]
    differ = torch.cat([(before[name] - after[name]).abs().flatten() for name in kernels])
    assert len(differ) > 1e5
    assert float(differ.max()) <= 1  # 128 has become 127
    assert float((differ > 0).float().mean()) < 0.01


def test_without_its_image_codec_a_separated_one_says_which(whole: Path, places: dict[str, Path]) -> None:
    separate.separate(whole, places["cache"] / "clips.safetensors")
    mark = load_codec().fingerprint
    (places["installed"] / "base.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=rf"clips.safetensors needs the image codec fingerprint {mark:04x}, which are"
    ):
        load_video("clips")


def test_separating_from_another_image_codec_is_refused(
    whole: Path, places: dict[str, Path], config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    put(config, 5, places["cache"] / "other.safetensors")
    out = tmp_path / "out.safetensors"
    for arguments, code in ((["--image", "other"], 1), (["--image", "base", "--version", "4"], 0)):
        monkeypatch.setattr("sys.argv", ["separate", str(whole), str(out), *arguments])
        assert separate.main() == code
        assert out.exists() == (code == 0)
    assert capsys.readouterr().err == (
        f"{whole} was trained over another image codec than other: name that with --image\n"
    )
    found = store.described(out)
    assert found is not None
    assert found.version == 4


def test_only_what_the_user_can_mend_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["separate", "in", "out"])
    monkeypatch.setattr(separate, "separate", lambda **_: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        separate.main()


def test_packing_keeps_what_it_has_packed() -> None:
    kernel = torch.randn(5, 3, 3, 3) * torch.tensor([0.0, 1e-3, 1.0, 127.9, 1e4]).view(-1, 1, 1, 1)
    once = unpacked(packed({"a.weight": kernel, "b.weight": kernel[0]}, "a"), "file")
    assert torch.equal(unpacked(packed(once, "a"), "file")["a.weight"], once["a.weight"])
    assert torch.equal(once["b.weight"], kernel[0])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("x.weight", None),
        ("x.weight", torch.zeros(4)),
        ("x.weight", torch.zeros(9, dtype=torch.int8)),
        ("x.weight.exponent", torch.zeros(4)),
        ("x.weight.exponent", torch.zeros(9, dtype=torch.int8)),
    ],
)
def test_kernels_that_strangers_packed(name: str, part: torch.Tensor | None, tmp_path: Path) -> None:
    state = packed({"x.weight": torch.randn(4, 2, 1, 1)}, "x")
    tensors = {key: tensor for key, tensor in (state | {name: part}).items() if tensor is not None}
    facts = {"format": store.FORMAT, "config": json.dumps({"autoencoder": {}, "transform": {}})}
    save_file(tensors, tmp_path / "w.safetensors", metadata=facts)
    with pytest.raises(WeightsError, match=r"holds no kernel in 8 bits for x.weight.exponent"):
        load_codec(tmp_path / "w.safetensors")


# ------------------------------------------------------------------ the command


def glc(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / "picture.png", render_picture(64, 64, 1))
    return tmp_path / "picture.png"


def test_decompress_finds_the_weights_of_each_file(
    config: dict[str, Any], places: dict[str, Path], picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = [put(config, 1, places["installed"] / "a.safetensors", version=2)]
    marks.append(put(config, 2, places["second"] / "b.safetensors"))
    (tmp_path / "coded").mkdir()
    for name in ("a", "b"):
        assert glc("compress", picture, tmp_path / f"coded/{name}.glc", "--weights", name) == 0
    assert glc("decompress", tmp_path / "coded", tmp_path / "decoded") == 0
    capsys.readouterr()
    assert glc("info", *sorted((tmp_path / "coded").iterdir()), places["installed"] / "a.safetensors") == 0
    said = capsys.readouterr().out
    assert f"{marks[0]:04x} a@2" in said
    assert f"{marks[1]:04x} b " in said
    (places["second"] / "b.safetensors").unlink()
    assert glc("decompress", tmp_path / "coded", tmp_path / "decoded", "--overwrite") == 1
    coded = tmp_path / "coded/b.glc"
    assert f"glc: {coded} was written with the weights fingerprint {marks[1]:04x}, which" in capsys.readouterr().err
    assert glc("decompress", coded, tmp_path / "b.png", "--weights", "a") == 1
    assert f"{coded} was written with weights of fingerprint {marks[1]:04x}, but" in capsys.readouterr().err


def test_a_clip_through_a_pipe_finds_its_weights(
    whole: Path, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    separate.separate(whole, places["cache"] / "clips.safetensors")
    codec = load_video("clips")
    data = compress_clip(codec, [render_picture(64, 64, 1)], 5, ClipFormat(width=64, height=64)).data
    read, write = os.pipe()
    with open(write, "wb") as target:
        target.write(data)
    with open(read, "rb") as source:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=source))
        assert glc("decompress", "-", tmp_path / "frames") == 0
    assert len(list((tmp_path / "frames").iterdir())) == 1


def test_listing_and_finding(
    config: dict[str, Any], places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert glc("weights", "list") == 0
    assert capsys.readouterr().out == ""
    mark = put(config, 1, places["installed"] / "a.safetensors", version=2)
    assert glc("weights", "list") == 0
    assert capsys.readouterr().out.split() == [
        "a@2",
        "image",
        f"{mark:04x}",
        str(places["installed"] / "a.safetensors"),
    ]
    assert glc("weights", "where") == 0
    assert capsys.readouterr().out.split() == list(map(str, places.values()))
    assert glc("weights", "where", "a") == 0
    assert capsys.readouterr().out.split() == [str(places["installed"] / "a.safetensors")]
    assert glc("weights", "where", "b") == 1
    assert capsys.readouterr().err.startswith("glc: no weights file at b: ")


def test_adding_weights(
    config: dict[str, Any], places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = image(config, 1)
    save_codec(codec, config, tmp_path / "x.safetensors", half=True, training={"p": {"w": torch.zeros(3)}}, name="run")
    for _ in range(2):  # the second time it is there
        assert glc("weights", "add", tmp_path / "x.safetensors") == 0
        assert capsys.readouterr().out == f"{places['cache'] / 'run.safetensors'}\n"
    assert load_codec("run").fingerprint == load_codec(tmp_path / "x.safetensors").fingerprint
    with safe_open(places["cache"] / "run.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith("training.")]  # noqa: SIM118
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16, torch.int64}  # noqa: SIM118
    put(config, 2, tmp_path / "y.safetensors")
    assert glc("weights", "add", tmp_path / "y.safetensors", "--name", "run") == 1
    assert "run.safetensors holds other weights: give these another --name or --version" in capsys.readouterr().err
    assert glc("weights", "add", tmp_path / "y.safetensors", "--name", "run", "--version", "2") == 0
    assert load_codec("run").fingerprint == image(config, 2).fingerprint
    for name in ("a/b", "a@1", "x.ckpt"):
        assert glc("weights", "add", tmp_path / "y.safetensors", "--name", name) == 1
    state = {f"codec.{key}": value for key, value in image(config, 3).state_dict().items()}
    torch.save({CHECKPOINT_CONFIG: json.dumps(config), "state_dict": state}, tmp_path / "last.ckpt")
    assert glc("weights", "add", tmp_path / "last.ckpt") == 0
    assert load_codec("last").fingerprint == image(config, 3).fingerprint
