"""A local server, and a catalogue whose sets are small."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from glc_train.datasets import SETS
from tests.datasets.small_sets import Shrink
from tests.datasets.web import Web, serve


@pytest.fixture
def web() -> Iterator[Web]:
    with serve({}) as server:
        yield server


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> Shrink:
    """Changes what the catalogue says of a set."""

    def change(name: str, **changes: Any) -> None:
        monkeypatch.setitem(SETS, name, replace(SETS[name], **changes))

    return change
