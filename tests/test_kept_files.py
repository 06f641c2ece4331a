"""Files of every set of weights that was ever released decode, whatever weights are installed today.

`tests/expected/kept` has for each of them, and for each version of the format, a file NAME@VERSION_formatN with the
suffix of its kind, and a picture of its last frame as decoded. Whoever replaces installed weights keeps the
old file beside them (`glc_train/weights/released.py`); nothing here is removed.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glc_train.bitstream import VideoHeader, read_header
from glc_train.weights import find_codec, store

KEPT = Path(__file__).parent / "expected/kept"
FILES = sorted(path for path in KEPT.iterdir() if path.suffix in (".glc", ".glcv"))


def _label(path: Path) -> str:
    return path.stem.partition("_format")[0]


def test_every_release_has_a_file() -> None:
    assert {_label(path) for path in FILES} == {store.label(each.name, each.version) for each in store.RELEASED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_kept_file_decodes_with_the_installed_weights(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLC_WEIGHTS", raising=False)
    monkeypatch.setenv("GLC_CACHE", str(tmp_path))  # what the package has must do
    data = path.read_bytes()
    header = read_header(io.BytesIO(data), path.name)
    kind: store.Kind = "video" if isinstance(header, VideoHeader) else "image"
    assert store.name_of(header.fingerprint, kind) == _label(path)
    assert path.stem.endswith(f"_format{data[0] >> 2 & 7}")
    decoder = find_codec(header.fingerprint, kind, name=str(path)).decoder(io.BytesIO(data), path.name)
    last = [frame.picture for frame in decoder][-1].astype(int)
    assert not decoder.damages
    with Image.open(path.with_suffix(".png")) as picture:
        expected = np.asarray(picture).astype(int)
    difference = np.abs(last - expected)  # symbols are the same everywhere, pixels up to the rounding of float32
    assert difference.max() <= 4
    assert difference.mean() < 0.1
