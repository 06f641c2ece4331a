"""Which weights this machine has, by name, version and fingerprint; nothing but the headers of files is read.

They lie in the folders of `GLC_WEIGHTS`, among those that are installed with the package, and in the cache of `glc
weights add`. Only packages count, as `save_codec` writes them.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from glc_train.files import cache_folder, weights_folders
from glc_train.weights.errors import WeightsError
from glc_train.weights.hub import fetched, is_address
from glc_train.weights.released import RELEASED

Kind = Literal["image", "video"]
FORMAT = "glc_train.image.1"
VIDEO_FORMAT = "glc_train.video.1"
SUFFIX = ".safetensors"
PRETRAINED = Path(__file__).parent.parent / "pretrained"  # weights that are installed with the package
_KINDS: dict[str, Kind] = {FORMAT: "image", VIDEO_FORMAT: "video"}
_NAME = re.compile(r"(?P<name>[\w.+-]+)(@(?P<version>[0-9]{1,9}))?")
FILES = (SUFFIX, ".ckpt", ".pth", ".pt")  # how files of weights end


@dataclass(frozen=True)
class Stored:
    """Weights in the store, as their file names them; whether it is right is found out when they are loaded.

    Attributes:
        path: of the file.
        kind: of codec.
        name: of the weights.
        version: from 1 up; None: not versioned.
        checksum: of `Codec.weights_checksum`; None: the file does not say, as before there was a store.
        image: checksum of the image codec that the file leaves out; None: it is whole.
    """

    path: Path
    kind: Kind
    name: str
    version: int | None
    checksum: int | None
    image: int | None = None

    @property
    def label(self) -> str:
        """NAME@VERSION, or NAME."""
        return label(self.name, self.version)


def label(name: str, version: int | None) -> str:
    """NAME@VERSION, or NAME."""
    return name if version is None else f"{name}@{version}"


def is_name(text: str) -> bool:
    """Whether weights can be called so."""
    match = _NAME.fullmatch(text)
    return match is not None and match["version"] is None and not text.endswith(FILES)


def folders() -> list[Path]:
    """Where weights are looked for, in this order."""
    return [*weights_folders(), PRETRAINED, cache_folder()]


def described(path: Path) -> Stored | None:
    """What the header of a file says; None: it is no package of ours, or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return None
    kind, own = _KINDS.get(facts.get("format", "")), _NAME.fullmatch(path.stem)
    if kind is None:
        return None
    name = facts.get("name") or (own["name"] if own else path.stem)
    version = _number(facts.get("version", own["version"] if own else None), 10)
    checksum = _number(facts.get("checksum"), 16)
    if checksum is None:  # the first release has nothing but its name
        known = [each for each in RELEASED if each.name == name and version in (None, each.version)]
        if known and path.parent == PRETRAINED:
            version, checksum = known[0].version, known[0].checksum
    return Stored(path, kind, name, version, checksum, _number(facts.get("image"), 16))


def _number(text: str | None, base: int) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def stored(places: list[Path] | None = None) -> Iterator[Stored]:
    """All weights in `places`, by default `folders`, in their order and then by file name."""
    for place in folders() if places is None else places:
        for path in sorted(place.glob(f"*{SUFFIX}")):
            if (found := described(path)) is not None:
                yield found


def newest(choice: list[Stored]) -> Stored:
    """The highest version; the first of those where there are several."""
    return max(choice, key=lambda each: each.version or 0)


def installed(kind: Kind) -> Path:
    """The weights that this installation carries for a kind of codec, the newest version of them.

    Raises:
        WeightsError: there are none, or of several names.
    """
    found = [each for each in stored([PRETRAINED]) if each.kind == kind]
    if not found:
        raise WeightsError(
            f"This installation carries no weights of {'an' if kind == 'image' else 'a'} {kind} codec: name an export "
            f"or checkpoint of train.py{', or the published .pth' if kind == 'image' else ''}."
        )
    if len({each.name for each in found}) > 1:
        raise WeightsError(f"Which weights are meant? Name one of: {', '.join(str(each.path) for each in found)}")
    return newest(found).path


def located(path: str | os.PathLike[str]) -> Path:
    """The file at `path`, which may be an address of the hub, or that of the NAME or NAME@VERSION in the store.

    Raises:
        MissingExtra: of an address, `huggingface_hub` is not installed.
        WeightsError: there is none of these.
    """
    if is_address(path):
        return fetched(path)
    path = Path(path)
    if path.is_file():
        return path
    text = str(path)
    match = None if text.endswith(FILES) else _NAME.fullmatch(text)
    found: list[Stored] = []
    if match:
        known = list(stored())
        found = [each for each in known if each.name == match["name"] and match["version"] in (None, str(each.version))]
    if found:
        return newest(found).path
    names = ", ".join(dict.fromkeys(each.label for each in known)) if match else ""
    raise WeightsError(
        f"no weights file at {path}: give the path of an export, a checkpoint or the published .pth"
        + (f", or one of these names: {names}" if names else "")
    )


def name_of(fingerprint: int, kind: Kind) -> str | None:
    """NAME@VERSION of weights, in the store or ever released; None: nobody here knows them."""
    for each in stored():
        if each.kind == kind and each.checksum is not None and each.checksum & 0xFFFF == fingerprint:
            return each.label
    return next((label(each.name, each.version) for each in RELEASED if each.checksum & 0xFFFF == fingerprint), None)


def missing(wanted: str, number: int, bits: int) -> str:
    """The end of a sentence about weights that are not in the store, and what to do.

    Args:
        wanted: begins it.
        number: their checksum, or the low bits of it.
        bits: how many there are.
    """
    known = next((each for each in RELEASED if each.checksum % 2**bits == number), None)
    name = f"{label(known.name, known.version)}, " if known else ""
    source = f"{known.source}; " if known else "get them from whoever wrote the file; "
    places = ", ".join(map(str, folders()))
    return (
        f"{wanted} {name}fingerprint {number & 0xFFFF:04x}, which are in none of {places}: {source}then "
        "`glc weights add FILE`"
    )
