"""Weights files made by strangers, or by accident: one WeightsError that names the file, soon and in little memory."""

import copy
import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.measures import model_config
from glc_train import weights
from glc_train.codecs import ImageCodec
from glc_train.pickles import PickleError, read_pickle
from glc_train.weights import WeightsError, build_any, build_codec, load_any_codec, load_codec, read_config, save_codec
from glc_train.weights.reading import FORMAT, VIDEO_FORMAT

QUIET = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return model_config()


@pytest.fixture(scope="module")
def video_config(config: dict[str, Any]) -> dict[str, Any]:
    return {"image": config, "transform": model_config("video/tiny"), "own_autoencoder": True, "gop": {}}


@pytest.fixture(scope="module")
def codec(config: dict[str, Any]) -> ImageCodec:
    torch.manual_seed(5)
    return build_codec(config).eval().requires_grad_(False)


def package(path: Path, config: Any, state: dict[str, Tensor] | None = None) -> Path:
    """A package with a configuration that `save_codec` would not write."""
    kind = VIDEO_FORMAT if isinstance(config, dict) and "image" in config else FORMAT
    text = config if isinstance(config, str) else json.dumps(config)
    save_file(state or {"x": torch.zeros(1)}, path, metadata={"format": kind, "config": text})
    return path


def refused(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(WeightsError) as error:
        load_any_codec(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 6000
    return message


# ------------------------------------------------------------------ configurations


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("transform", "depth"), 100_000),
        (("transform", "context_depth"), 100_000),
        (("transform", "context_depth"), 0),
        (("transform", "channels"), 1_000_000),
        (("transform", "codes"), 2**40),
        (("transform", "quality_levels"), {"a": 1}),
        (("transform", "rdoq"), [float("nan")]),
        (("transform", "context"), "${oc.env:HOME}"),
        (("autoencoder", "widths"), [10**6] * 3),
        (("autoencoder", "widths"), [1] * 10_000),
        (("autoencoder", "widths"), {"0": 32}),
        (("autoencoder", "widths"), []),
        (("autoencoder", "res_blocks"), 10**5),
        (("autoencoder", "patch"), 4.0),
        (("autoencoder", "attention"), "yes"),
        (("autoencoder", "groups"), True),
        (("autoencoder", "fsq_levels"), [2] * 60),
        (("autoencoder", "_target_"), "${oc.env:HOME}"),
        (("autoencoder",), None),
        (("transform",), [1]),
        (("surplus",), {}),
    ],
)
def test_settings_out_of_bounds(tmp_path: Path, config: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    hostile = copy.deepcopy(config)
    inner = hostile
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    start = time.perf_counter()
    message = refused(package(tmp_path / "w.safetensors", hostile))
    assert place[-1] in message or place == ("autoencoder", "_target_")
    with pytest.raises(WeightsError):  # what training takes a configuration from
        read_config(tmp_path / "w.safetensors")
    assert time.perf_counter() - start < 5


def test_the_largest_model_in_bounds_costs_little_until_the_file_holds_it(tmp_path: Path) -> None:
    """This one would take hundreds of gigabytes."""
    hostile = {
        "autoencoder": {
            "widths": [4096] * 5,
            "latent_channels": 4096,
            "codes": 2**20,
            "res_blocks": 16,
            "groups": None,
        },
        "transform": {"latent_channels": 4096, "channels": 4096, "hyper_channels": 4096, "depth": 16, "codes": 2**20},
    }
    assert "missing: autoencoder" in refused(package(tmp_path / "w.safetensors", hostile))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "null", "5", '"text"', "{}", '{"image": {"image": {}}}']
)
def test_configurations_that_are_none(tmp_path: Path, text: str) -> None:
    refused(package(tmp_path / "w.safetensors", text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([0, -1, 10**9]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@QUIET
@given(data=st.data())
def test_any_change_of_a_configuration_is_refused_in_one_sentence_or_builds(
    tmp_path: Path, config: dict[str, Any], video_config: dict[str, Any], data: st.DataObject
) -> None:
    hostile = copy.deepcopy(data.draw(st.sampled_from([config, video_config])))
    for _ in range(data.draw(st.integers(1, 3))):
        inner: Any = hostile
        while True:
            key = data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=5))
            if not isinstance(inner.get(key), dict) or not inner[key] or data.draw(st.booleans()):
                break
            inner = inner[key]
        change = data.draw(st.sampled_from(["set", "drop", "near"]))
        if change == "drop":
            inner.pop(key, None)
        elif change == "near" and type(inner.get(key)) is int:
            inner[key] += data.draw(st.integers(-4, 4))
        else:
            inner[key] = data.draw(JSON)
    message = refused(package(tmp_path / "w.safetensors", hostile))  # at the latest, for it has no such tensors
    assert "Traceback" not in message


WIDTHS = st.integers(1, 9)


@QUIET
@example([1, 2, 1], 1, None, False, 4, 1, (1, 0), (0, 0), "none", "categorical")  # no block that widens
@given(
    widths=st.lists(WIDTHS, min_size=1, max_size=3),
    patch=st.integers(1, 3),
    groups=st.none() | st.integers(1, 3),
    attention=st.booleans(),
    channels=WIDTHS,
    hyper_channels=WIDTHS,
    latents=st.tuples(WIDTHS, st.integers(0, 1)),
    depths=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    context=st.sampled_from(["four_part", "none"]),
    hyper_prior=st.sampled_from(["categorical", "factorised"]),
)
def test_what_builds_codes_a_picture(
    widths: list[int],
    patch: int,
    groups: int | None,
    attention: bool,
    channels: int,
    hyper_channels: int,
    latents: tuple[int, int],
    depths: tuple[int, int],
    context: str,
    hyper_prior: str,
) -> None:
    """What does not go together is said when the model is built, not by a traceback from its midst."""
    config = {
        "autoencoder": {
            "widths": widths, "latent_channels": latents[0], "codes": 5, "res_blocks": depths[0], "patch": patch,
            "attention": attention, "groups": groups,
        },
        "transform": {
            "latent_channels": sum(latents), "channels": channels, "hyper_channels": hyper_channels, "codes": 7,
            "depth": depths[0], "context_depth": depths[1], "context": context, "hyper_prior": hyper_prior,
        },
    }  # fmt: skip
    try:
        built = build_any(config).eval()
    except WeightsError:
        return
    assert isinstance(built, ImageCodec)
    picture = np.full((3, 5, 3), 99, np.uint8)
    assert built.decompress(built.compress(picture, 1)).shape == picture.shape


# ------------------------------------------------------------------ tensors


@pytest.mark.parametrize(
    ("name", "value"),
    [("autoencoder.decoder.post_quant_conv.bias", float("nan")), ("transform.analysis.gain", -float("inf"))],
)
def test_values_that_are_no_numbers_name_their_tensor(
    tmp_path: Path, codec: ImageCodec, config: dict[str, Any], name: str, value: float
) -> None:
    state = {key: tensor.clone() for key, tensor in codec.state_dict().items()}
    state[name].view(-1)[1] = value
    assert name in refused(package(tmp_path / "w.safetensors", config, state))
    torch.save({"state_dict": {f"codec.{k}": v for k, v in state.items()}, "glc_config": json.dumps(config)},
               tmp_path / "w.ckpt")  # fmt: skip
    assert f"in {name}; " in refused(tmp_path / "w.ckpt")


def test_numbers_that_single_precision_cannot_hold(tmp_path: Path, codec: ImageCodec, config: dict[str, Any]) -> None:
    state = {
        key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in codec.state_dict().items()
    }
    state["transform.analysis.gain"][0] = 1e300
    assert "transform.analysis.gain" in refused(package(tmp_path / "w.safetensors", config, state))


@pytest.mark.parametrize("counts", [torch.full((64,), -1), torch.full((64,), 2**40), torch.full((64,), 2**62)])
def test_counts_that_are_none(tmp_path: Path, codec: ImageCodec, config: dict[str, Any], counts: Tensor) -> None:
    state = dict(codec.state_dict()) | {"transform.z_counts": counts}
    assert "transform.z_counts" in refused(package(tmp_path / "w.safetensors", config, state))


def test_kinds_of_number(tmp_path: Path, codec: ImageCodec, config: dict[str, Any]) -> None:
    gain, counts = codec.state_dict()["transform.analysis.gain"], codec.state_dict()["transform.z_counts"]
    for change in ({"transform.z_counts": counts.float()}, {"transform.analysis.gain": gain.long()},
                   {"transform.analysis.gain": gain.to(torch.complex64)}):  # fmt: skip
        state = dict(codec.state_dict()) | change
        assert f"1 of wrong type: {next(iter(change))}" in refused(package(tmp_path / "w.safetensors", config, state))


def test_weights_that_are_denormal_decode_alike_where_they_are_flushed_to_zero(codec: ImageCodec) -> None:
    """They are no reason to refuse a file: what they change is far below the grids of the exact arithmetic."""
    tiny = copy.deepcopy(codec)
    for tensor in (*tiny.transform.decoder.parameters(), *tiny.transform.z_quantiser.parameters()):
        tensor.view(-1)[::3] = 1e-40
    picture = np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)
    data = tiny.compress(picture, 3)
    latent = tiny.decompress_symbols(data)[1]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        assert torch.equal(copy.deepcopy(tiny).decompress_symbols(data)[1], latent)
    finally:
        torch.set_flush_denormal(False)


# ------------------------------------------------------------------ pickles


def loops() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["net"] = table
    return table


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": None},
        {"state_dict": None, "glc_config": "CONFIG"},
        {"state_dict": [1], "glc_config": "CONFIG"},
        {"state_dict": {0: torch.zeros(1)}, "glc_config": "CONFIG"},
        {"state_dict": {"codec.a": 5, "codec.b": None}, "glc_config": "CONFIG"},
        {"glc_config": {"a": [1]}},
        loops(),
        None,
        [],
        {"a": torch.zeros(2).to_sparse()},
        {"vqgan.quantize.embedding.weight": None},
    ],
)
def test_tables_that_are_none(tmp_path: Path, config: dict[str, Any], content: Any) -> None:
    if isinstance(content, dict) and content.get("glc_config") == "CONFIG":
        content = content | {"glc_config": json.dumps(config)}
    torch.save(content, tmp_path / "w.ckpt")
    refused(tmp_path / "w.ckpt")


def test_tensors_larger_than_their_file(tmp_path: Path) -> None:
    """A tensor may repeat one number a billion times, and a model of that shape would have to hold them."""
    config = {
        "autoencoder": {"widths": [32], "latent_channels": 4096, "codes": 2**16, "res_blocks": 0, "attention": False},
        "transform": None,
    }
    with torch.device("meta"):
        state = build_codec(config).state_dict()
    shared = {f"codec.{name}": torch.zeros(1, dtype=t.dtype).expand(t.shape) for name, t in state.items()}
    torch.save({"state_dict": shared, "glc_config": json.dumps(config)}, tmp_path / "w.ckpt")
    assert (tmp_path / "w.ckpt").stat().st_size < 100_000
    assert "larger than the file" in refused(tmp_path / "w.ckpt")


def test_archives_that_unpack_to_more_than_themselves(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.ckpt")
    with zipfile.ZipFile(tmp_path / "plain.ckpt") as plain, zipfile.ZipFile(tmp_path / "w.ckpt", "w") as packed:
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part), zipfile.ZIP_DEFLATED)
    assert "can be read safely" in refused(tmp_path / "w.ckpt")


class Runs:
    """Unpickling it runs something."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return print, ("gotcha",)


def test_no_advice_to_switch_the_protection_off(tmp_path: Path) -> None:
    torch.save({"state_dict": Runs()}, tmp_path / "w.ckpt")
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps(Runs(), protocol=2))
    for path in (tmp_path / "w.ckpt", tmp_path / "old.ckpt"):
        message = refused(path)
        assert "could run code" in message
        for word in ("weights_only", "option", "trust", "safe_globals"):
            assert word not in message
        with pytest.raises(PickleError, match="can be read safely"):
            read_pickle(path)


# ------------------------------------------------------------------ damaged bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A package and a checkpoint of a codec of a few kilobytes."""
    config = {"autoencoder": {"widths": [4], "latent_channels": 2, "codes": 3, "res_blocks": 0, "attention": False,
                              "groups": None}, "transform": None}  # fmt: skip
    folder, small = tmp_path_factory.mktemp("small"), build_codec(config)
    save_codec(small, config, folder / "w.safetensors")
    state = {f"codec.{name}": tensor for name, tensor in small.state_dict().items()}
    torch.save({"state_dict": state, weights.CHECKPOINT_CONFIG: json.dumps(config)}, folder / "w.ckpt")
    return {suffix: (folder / f"w{suffix}").read_bytes() for suffix in (".safetensors", ".ckpt")}


@QUIET
@given(
    suffix=st.sampled_from([".safetensors", ".ckpt"]),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=4),
    front=st.booleans(),
    keep=st.floats(0.5, 1) | st.just(1.0),
)
def test_damaged_files_are_refused_or_load(
    tmp_path: Path,
    files: dict[str, bytes],
    suffix: str,
    places: list[tuple[float, bytes]],
    front: bool,
    keep: float,
) -> None:
    data = bytearray(files[suffix])
    for place, noise in places:
        at = int(place * (min(2000, len(data)) if front else len(data)))
        data[at : at + len(noise)] = noise
    path = tmp_path / f"w{suffix}"
    path.write_bytes(bytes(data[: int(keep * len(data))]))
    try:
        load_codec(path)
    except WeightsError as error:
        message = str(error)
    else:
        return
    assert str(path) in message
