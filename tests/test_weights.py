import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.measures import model_config
from glc_train import weights
from glc_train.codecs import ImageCodec
from glc_train.precision import choose
from glc_train.weights import (
    WeightsError,
    build_codec,
    load_codec,
    load_strictly,
    predictor_state,
    read_package,
    rename_published,
    save_codec,
)
from tests.golden_model import published_name


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return model_config()


@pytest.fixture(scope="module")
def codec(config: dict[str, Any]) -> ImageCodec:
    torch.manual_seed(3)
    codec = build_codec(config).eval()
    codec.transform.z_counts.copy_(torch.arange(64) + 1)
    return codec


def same(a: ImageCodec, b: ImageCodec) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# ------------------------------------------------------------------ our packages


def test_a_package_round_trips(codec: ImageCodec, config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    save_codec(codec, config, path)
    loaded = load_codec(path)
    assert same(loaded, codec)
    assert loaded.fingerprint == codec.fingerprint
    assert read_package(path)[0] == config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]  # nothing temporary is left


def test_half_packages_are_half_as_large(codec: ImageCodec, config: dict[str, Any], tmp_path: Path) -> None:
    save_codec(codec, config, tmp_path / "full.safetensors")
    save_codec(codec, config, tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert 0.5 < sizes[1] / sizes[0] < 0.55
    loaded = load_codec(tmp_path / "half.safetensors")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert torch.equal(loaded.transform.z_counts, codec.transform.z_counts)
    for ours, theirs in zip(loaded.parameters(), codec.parameters(), strict=True):
        assert torch.equal(ours, theirs.half().float())


def test_arithmetic_is_chosen_and_weights_stay(codec: ImageCodec, config: dict[str, Any], tmp_path: Path) -> None:
    save_codec(codec, config, tmp_path / "w.safetensors")
    loaded = load_codec(str(tmp_path / "w.safetensors"), dtype=torch.bfloat16)
    assert loaded.compute_dtype == torch.bfloat16
    assert same(loaded, codec)
    for dtype in (torch.float16, torch.float64, "half"):
        with pytest.raises(ValueError, match="dtype must be"):
            load_codec(tmp_path / "w.safetensors", dtype=dtype)
    assert load_codec(tmp_path / "w.safetensors", dtype="auto").compute_dtype == choose("cpu").dtype


def test_a_failed_save_leaves_the_old_file(codec: ImageCodec, config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_codec(codec, config, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_codec(codec, {"not plain": object()}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match="no weights file at"):
            load_codec(path)


def test_truncated_packages(codec: ImageCodec, config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_codec(codec, config, path)
    data = path.read_bytes()
    for length in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError, match="no readable safetensors file"):
            load_codec(path)


def repack(source: Path, target: Path, metadata: dict[str, str] | None) -> None:
    with safe_open(source, framework="pt") as file:
        save_file({name: file.get_tensor(name) for name in file.keys()}, target, metadata=metadata)  # noqa: SIM118


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no weights package of glc_train"),
        ({"format": "pt"}, "no weights package of glc_train"),
        ({"format": weights.FORMAT}, "no readable configuration"),
        ({"format": weights.FORMAT, "config": "{"}, "no readable configuration"),
        ({"format": weights.FORMAT, "config": "[1]"}, "is no table of sections"),
        ({"format": weights.FORMAT, "config": "{}"}, "no section autoencoder"),
        (
            {"format": weights.FORMAT, "config": '{"autoencoder": {"nonsense": 1}}'},
            r"model\.autoencoder has no setting 'nonsense'",
        ),
        ({"format": weights.FORMAT, "config": '{"autoencoder": {"groups": 0}}'}, r"model\.autoencoder"),
        ({"format": weights.FORMAT, "config": '{"autoencoder": {"codes": 1e99}}'}, r"model\.autoencoder"),
        ({"format": weights.FORMAT, "config": '{"autoencoder": {"codes": -5}}'}, r"model\.autoencoder"),
        ({"format": weights.FORMAT, "config": '{"autoencoder": {"widths": 7}}'}, r"model\.autoencoder"),
    ],
)
def test_foreign_metadata(
    codec: ImageCodec, config: dict[str, Any], tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    save_codec(codec, config, tmp_path / "w.safetensors")
    repack(tmp_path / "w.safetensors", tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(WeightsError, match=message):
        load_codec(tmp_path / "foreign.safetensors")


def test_a_foreign_target_is_never_built(codec: ImageCodec, config: dict[str, Any], tmp_path: Path) -> None:
    evil = {
        "_target_": "os.system",
        "autoencoder": config["autoencoder"] | {"_target_": "subprocess.Popen"},
        "transform": config["transform"] | {"_target_": "pathlib.Path.touch"},
    }
    save_codec(codec, evil, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"made of os\.system"):
        load_codec(tmp_path / "w.safetensors")


def test_all_that_does_not_fit_is_named(codec: ImageCodec) -> None:
    state = dict(codec.state_dict())
    del state["transform.z_quantiser.embedding.weight"], state["autoencoder.decoder.post_quant_conv.bias"]
    state["surplus.one"] = state["surplus.two"] = torch.zeros(1)
    state["transform.analysis.gain"] = torch.zeros(4, 5, 1, 1)
    with pytest.raises(WeightsError) as error:
        load_strictly(codec, state, "somewhere.pth")
    message = str(error.value)
    assert message.startswith("somewhere.pth does not fit the model: 2 missing: ")
    for part in (
        "transform.z_quantiser.embedding.weight",
        "autoencoder.decoder.post_quant_conv.bias",
        "2 unexpected: surplus.one, surplus.two",
        "1 of wrong shape: transform.analysis.gain (4, 5, 1, 1) instead of (4, 32, 1, 1)",
    ):
        assert part in message


def test_nothing_is_loaded_when_something_does_not_fit(config: dict[str, Any]) -> None:
    codec = build_codec(config)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()} | {"surplus": torch.zeros(1)}
    with pytest.raises(WeightsError):
        load_strictly(codec, state, "x")
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())


# ------------------------------------------------------------------ the published release


@pytest.fixture
def tiny_release(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the published architecture as small as the tiny one: names and paths are what is tested."""
    vqvae, transform = weights.VQVAE, weights.ImageTransform
    parts = [{k: v for k, v in config[name].items() if k != "_target_"} for name in ("autoencoder", "transform")]
    monkeypatch.setattr(weights, "VQVAE", lambda: vqvae(**parts[0]))
    monkeypatch.setattr(weights, "ImageTransform", lambda: transform(**parts[1]))


@pytest.fixture
def published(codec: ImageCodec) -> dict[str, Tensor]:
    state = {published_name(codec, name): p.detach().clone() for name, p in codec.named_parameters()}
    return state | {"code_pred_loss.feat_emb.weight": torch.zeros(2), "code_pred_pix_loss.position_emb": torch.ones(3)}


@pytest.mark.usefixtures("tiny_release")
@pytest.mark.parametrize("nesting", [(), ("state_dict",), ("net",), ("net_g",), ("net", "state_dict")])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_file_loads_however_it_is_wrapped(
    codec: ImageCodec, published: dict[str, Tensor], tmp_path: Path, nesting: tuple[str, ...], prefix: str
) -> None:
    content: dict[str, Any] = {prefix + name: tensor for name, tensor in published.items()}
    for key in nesting:
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "release.pth")
    loaded = load_codec(tmp_path / "release.pth")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), codec.parameters(), strict=True))
    assert torch.all(loaded.transform.z_counts == 1)  # the published prior is uniform


@pytest.mark.usefixtures("tiny_release")
def test_a_published_file_that_does_not_fit(published: dict[str, Tensor], tmp_path: Path) -> None:
    del published["q_enc"]
    published["hyper_dec.9.bias"] = torch.zeros(1)
    torch.save(published, tmp_path / "release.pth")
    with pytest.raises(WeightsError, match=r"1 missing: transform\.analysis\.gain; 1 unexpected: hyper_dec\.9\.bias"):
        load_codec(tmp_path / "release.pth")


def test_names_translate_there_and_back(codec: ImageCodec, published: dict[str, Tensor]) -> None:
    renamed = rename_published(published)
    assert renamed.keys() == {name for name, _ in codec.named_parameters()}
    assert not any(".block." in name for name in renamed)


def test_code_predictors_are_set_apart(published: dict[str, Tensor]) -> None:
    assert predictor_state(published, "code_pred_loss").keys() == {"feat_emb.weight"}
    assert predictor_state(published, "code_pred_pix_loss").keys() == {"position_emb"}


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("averaged", [False, True])
def test_a_checkpoint_gives_its_averaged_weights_if_it_has_them(
    codec: ImageCodec, config: dict[str, Any], tmp_path: Path, averaged: bool
) -> None:
    current = {f"codec.{name}": t + 1 if averaged else t for name, t in codec.state_dict().items()}
    state = current | {"train_step": torch.tensor(7), "adversary.discriminator.net.0.bias": torch.zeros(2)}
    if averaged:
        state |= {f"ema.{name}": t for name, t in codec.state_dict().items()}
    content = {"state_dict": state, weights.CHECKPOINT_CONFIG: json.dumps(config), "global_step": 14}
    torch.save(content, tmp_path / "last.ckpt")
    assert same(load_codec(tmp_path / "last.ckpt"), codec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"glc_config": 5}, "no readable configuration"),
        ({"glc_config": "{}"}, "no section autoencoder"),
        ({"state_dict": {}}, "missing: autoencoder"),
    ],
)
def test_damaged_checkpoints(
    codec: ImageCodec, config: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = {"state_dict": {f"codec.{n}": t for n, t in codec.state_dict().items()}, "glc_config": json.dumps(config)}
    torch.save(content | change, tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match=message):
        load_codec(tmp_path / "last.ckpt")
    torch.save({"glc_config": content["glc_config"]}, tmp_path / "bare.ckpt")
    with pytest.raises(WeightsError, match="missing: autoencoder"):
        load_codec(tmp_path / "bare.ckpt")


# ------------------------------------------------------------------ files from strangers


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_malicious_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "was here"
    torch.save({"state_dict": Malicious(marker)}, tmp_path / "evil.pth")
    (tmp_path / "evil2.pth").write_bytes(pickle.dumps(Malicious(marker)))
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(WeightsError, match="no weights file that can be read safely"):
            load_codec(tmp_path / name)
    assert not marker.exists()
    pickle.loads((tmp_path / "evil2.pth").read_bytes())  # the premise: it would have
    assert marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle at all", b"PK\x03\x04" + bytes(50), bytes(range(256))])
def test_foreign_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="no weights file that can be read safely"):
        load_codec(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds no table of tensors"),
        ({"state_dict": {"a": 1}}, "holds no table of tensors"),
        ({0: torch.zeros(1)}, "holds no table of tensors"),
        ({"conv.weight": torch.zeros(1)}, "neither a checkpoint of glc_train nor the published"),
        ({}, "neither a checkpoint of glc_train nor the published"),
    ],
)
def test_foreign_tables(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        load_codec(tmp_path / "w.pth")
