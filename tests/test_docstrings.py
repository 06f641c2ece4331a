"""Docstrings are in one style: Google's sections, an argument a line, names between single backticks."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "glc_train"
OLD_MARKS = re.compile(r"``|:(?:class|mod|func|meth|attr|exc):`|^\s*:param |^\s*Parameters\n\s*-{3}", re.MULTILINE)
SECTION = re.compile(r"^ *(?:Args|Attributes):\n((?: +\S.*\n?)+)", re.MULTILINE)


def faults(docstring: str, arguments: set[str]) -> list[str]:
    """What is not in the style."""
    found = OLD_MARKS.findall(docstring)
    for lines in SECTION.findall(docstring):
        found += [name for name in re.findall(r"[.;] (\w+): ", lines) if name in arguments]
    return found


def test_faults_are_found() -> None:
    assert faults("See ``x`` and :class:`Y`.", set()) == ["``", "``", ":class:`"]
    assert faults("Does.\n\n    Args:\n        a: one. b: two.\n", {"a", "b"}) == ["b"]
    assert faults("Does.\n\n    Args:\n        a: one.\n        b: two, see. c: not one.\n", {"a", "b"}) == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_are_in_one_style(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
            assert faults(ast.get_docstring(node) or "", arguments) == [], getattr(node, "name", path.name)
