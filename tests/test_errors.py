"""Errors that are a sentence for the user, and those that keep their traceback."""

from pathlib import Path
from typing import Any

import pytest

from glc_train.errors import is_for_user
from glc_train.files import replacing
from glc_train.pickles import PickleError


def raised(source: str, module: str) -> Exception:
    """What a function with this body raises, as if it stood in `module`."""
    names: dict[str, Any] = {"__name__": module, "Other": type("Other", (ValueError,), {"__module__": "elsewhere"})}
    exec(f"def function():\n    {source}", names)
    try:
        names["function"]()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("raise ValueError('give another')", "glc_train.data.crops", True),
        ("raise Other('give another') from KeyError()", "glc_train", True),
        ("raise ValueError('a bug, or not')", "glc_trainer", False),
        ("raise ValueError('of a user')", "__main__", False),
        ("open('/no/such/file')", "__main__", True),
        ("int('x')", "glc_train.data.crops", False),
        ("a, b = [1]", "glc_train.data.crops", False),
        ("import json; json.loads('[')", "glc_train.data.crops", False),
        ("raise KeyError('x')", "glc_train.data.crops", False),
        ("raise RuntimeError('x')", "glc_train.data.crops", False),
    ],
)
def test_who_raised_it_decides(source: str, module: str, expected: bool) -> None:
    assert is_for_user(raised(source, module)) is expected


def test_classes_of_ours_are_for_the_user_wherever_they_come_from(tmp_path: Path) -> None:
    assert is_for_user(PickleError("never raised"))
    with pytest.raises(ValueError, match="mine") as caught, replacing(tmp_path / "never"):
        raise ValueError("mine")
    assert not is_for_user(caught.value), "it only went through ours"
