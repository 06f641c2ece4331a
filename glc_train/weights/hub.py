"""Weights on the Hugging Face hub or a mirror of it (`HF_ENDPOINT`), and folders that are laid out as there.

A repository holds `model.safetensors`, a package as `save_codec` writes it; `config.json`, which says what that builds
and its SHA-256; and a model card, `README.md`. What was fetched stays in the cache of `huggingface_hub` (`HF_HOME`),
which serves without a network too (`HF_HUB_OFFLINE=1`).
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Any

import torch

from glc_train import extras
from glc_train.codecs import Codec
from glc_train.files import sha256_of, write_text
from glc_train.weights.errors import WeightsError

MODEL, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_ADDRESS = re.compile(r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_EXPORTED_CARD = "model_card.md"  # beside the weights of a training


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether it begins as an address of the hub; a `Path` has lost one of its slashes."""
    return _text(text).startswith("hf:/")


def fetched(address: str | os.PathLike[str], **options: Any) -> Path:
    """The file of weights at hf://OWNER/NAME or hf://OWNER/NAME@REVISION, out of the cache where it is there.

    Args:
        address: REVISION is a branch, a tag or a commit.
        options: of `huggingface_hub.hf_hub_download`.

    Raises:
        MissingExtra: `huggingface_hub` is not installed.
        WeightsError: there is nothing such, it cannot be reached, or it is damaged.
    """
    match = _ADDRESS.fullmatch(_text(address))
    if match is None:
        raise WeightsError(f"{_text(address)}: give hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    extras.require("hub", "hf://")
    from huggingface_hub import hf_hub_download

    options = {"revision": match["revision"]} | options
    name = f"hf://{match['repository']}" + (f"@{options['revision']}" if options["revision"] else "")
    try:
        config, model = (Path(hf_hub_download(match["repository"], file, **options)) for file in (CONFIG, MODEL))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: {_reason(error)}") from error
    return _checked(config, model, name)


def _text(address: str | os.PathLike[str]) -> str:
    return address.as_posix() if isinstance(address, PurePath) else os.fspath(address)


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    reasons = {
        errors.RepositoryNotFoundError: "there is no such repository, or it is private (then: hf auth login)",
        errors.RevisionNotFoundError: "there is no such revision",
        errors.LocalEntryNotFoundError: "it cannot be reached, and is not in the cache; check the network",
        errors.EntryNotFoundError: f"the repository lacks {CONFIG} or {MODEL}: it holds no weights of glc_train",
    }
    known = [reason for kind, reason in reasons.items() if isinstance(error, kind)]
    return known[0] if known else (str(error).strip().splitlines() or [type(error).__name__])[0]


def _checked(config: Path, model: Path, name: str) -> Path:
    try:
        expected = json.loads(config.read_text(encoding="utf-8")).get("sha256")
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{name}: {config} is no configuration of weights: {error}") from error
    if sha256_of(model) != expected:
        raise WeightsError(f"{name}: {model} has not the SHA-256 of {CONFIG}: delete it and fetch it again")
    return model


def from_pretrained(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    trusted: Collection[str] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Codec:
    """Loads a codec from the hub, or from a folder of `save_pretrained`.

    Args:
        source: OWNER/NAME of a repository, or a folder.
        revision: branch, tag or commit; None: the main branch.
        device, dtype, trusted: as of `load_any_codec`.
        cache_dir, token, local_files_only, force_download: as of `huggingface_hub.hf_hub_download`.

    Raises:
        MissingExtra: `huggingface_hub` is not installed.
        WeightsError: see `fetched` and `load_any_codec`.
    """
    from glc_train.weights import load_any_codec

    folder = Path(source)
    if folder.is_dir():
        config, model = folder / CONFIG, folder / MODEL
        if not (config.is_file() and model.is_file()):
            raise WeightsError(f"{folder} lacks {CONFIG} or {MODEL}: give a folder that save_pretrained wrote")
        path = _checked(config, model, str(folder))
    else:
        options = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
        address = f"hf://{_text(source).removeprefix('hf://')}"
        more = {} if revision is None else {"revision": revision}
        path = fetched(address, **options, **more, force_download=force_download)
    return load_any_codec(path, device, dtype, trusted)


def save_pretrained(
    weights: str | os.PathLike[str], folder: str | os.PathLike[str], card: str | None = None, licence: str | None = None
) -> None:
    """Lays weights out in a folder as on the hub.

    Args:
        weights: an export of a training, or NAME of weights in the store.
        folder: to write to; files of the same names are replaced.
        card: Markdown of the model card; None: the one beside the weights, else a short one.
        licence: as the hub names them, `mit` say.

    Raises:
        WeightsError: there are no such weights.
        OSError: the folder cannot be written.
    """
    from glc_train.weights import described, located, read_config

    path = located(weights)
    facts, beside = described(path), path.with_name(_EXPORTED_CARD)
    if facts is None:
        raise WeightsError(f"{path} is no export of glc_train: give the weights.safetensors of a training")
    if card is None:
        card = beside.read_text(encoding="utf-8") if beside.is_file() else _short_card(facts.label, facts.kind)
    tags = {"license": licence, "library_name": "glc_train", "pipeline_tag": "image-to-image"}
    front = [f"{key}: {value}" for key, value in tags.items() if value] + ["tags: [image-compression]"]
    config = {"library": "glc_train", "kind": facts.kind, "name": facts.label, "sha256": sha256_of(path)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / MODEL)
    write_text(folder / CONFIG, json.dumps(config | {"config": read_config(path)}, indent=2) + "\n")
    write_text(folder / CARD, "\n".join(["---", *front, "---", "", card]))


def _short_card(name: str, kind: str) -> str:
    loader = "load_codec" if kind == "image" else "load_video"
    return f"""# {name}

Weights of a GLC {kind} codec, trained with `glc_train`.

```python
import glc_train

codec = glc_train.{loader}("hf://OWNER/NAME")
```

At these rates small text and faces are invented rather than kept: decoded pictures are no evidence.
"""


def push_to_hub(
    weights: str | os.PathLike[str],
    repository: str,
    *,
    card: str | None = None,
    licence: str | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Puts weights on the hub, as `save_pretrained` lays them out; returns the address of the commit.

    Args:
        weights, card, licence: as of `save_pretrained`.
        repository: OWNER/NAME, made where it is missing.
        private: whether it is made so.
        revision: the branch; None: main.
        message: of the commit.
        token: of the hub; None: the one that `hf auth login` keeps.

    Raises:
        MissingExtra: `huggingface_hub` is not installed.
        WeightsError: there are no such weights, or the hub refuses them.
    """
    extras.require("hub", "push_to_hub")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(weights, folder, card, licence)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, revision=revision, commit_message=message or "Weights"
            )
        except (OSError, ValueError) as error:
            raise WeightsError(f"hf://{repository}: {_reason(error)}") from error
    return str(done.commit_url)
