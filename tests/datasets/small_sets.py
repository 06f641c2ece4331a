"""Public sets in small: what stands for their files, and how they are prepared in tests."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glc_train.datasets import Options
from glc_train.datasets.download import Fetcher
from tests.datasets.test_archives import tree

Shrink = Callable[..., None]


def picture(name: str) -> bytes:
    return name.encode() * 50


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, picture(name))
    return buffer.getvalue()


def fast(source: Path | None = None, **more: Any) -> Options:
    return Options(source, fetcher=Fetcher(first_wait=0.01), **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if name != "manifest.json"}
