"""Sphinx: `make docs` builds docs/_build/html. A warning is an error, and nothing is fetched.

With `GLC_DOCS_ONLINE=1 make docs` names of Python, PyTorch and Lightning link to their pages; `make docs-links` asks
for every address outside. Both need the network.
"""

import json
import os
import re
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent

project = "glc_train"
author = "glc_train contributors"
release = installed_version("glc_train")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
linkcheck_timeout = 20
linkcheck_retries = 2
suppress_warnings = ["ref.python"]  # a class offered by two packages is one and the same
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
if os.environ.get("GLC_DOCS_ONLINE"):  # links into the pages of others, whose indices have to be fetched
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "lightning": ("https://lightning.ai/docs/pytorch/stable", None),
    }

html_theme = "pydata_sphinx_theme"
html_title = "glc_train"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 1,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_center": [],  # all pages are in the bar at the left, by chapters
}
html_sidebars = {"**": ["pages"]}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_ARGUMENT = re.compile(r"((?:\*?[a-z_][a-z_0-9]*)(?:, \*?[a-z_][a-z_0-9]*)*): (\S.*)|(Raises): (\S.*)")
_LINK = re.compile(r"(?<!!)\[([^]]*)\]\(((?:\.\./)+[^)#]*)(#[^)]*)?\)")


def read_notebook(app: object, docname: str, source: list[str]) -> None:
    """A notebook becomes a page: its cells, and what they gave when it was last run."""
    path = DOCS / f"{docname}.ipynb"
    if path.is_file():
        source[0] = "\n\n".join(part for cell in json.loads(source[0])["cells"] for part in _cell(cell))


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```{{code-block}} python\n:force:\n\n{text}\n```"  # forced: `!` and `%` are no Python
    for output in cell["outputs"]:
        if "text" in output:
            yield f"```text\n{''.join(output['text'])}\n```"
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                yield f"![What the cell shows](data:{kind};base64,{''.join(''.join(data).split())})"


def name_files_outside(app: object, docname: str, source: list[str]) -> None:
    """Links to files outside docs/, which the site does not hold, become the file's name."""

    def named(match: re.Match[str]) -> str:
        target = ((DOCS / docname).parent / match[2]).resolve()
        if target.is_relative_to(DOCS):
            return match[0]
        name = target.relative_to(DOCS.parent).as_posix()
        text = match[1].strip("`")
        return f"`{name}`" if text == name or text == target.name else f"{match[1]} (`{name}`)"

    source[0] = _LINK.sub(named, source[0])


def list_arguments(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings that explain each argument in a line, without a heading, get them as a list."""
    if any(line.strip() in ("Args:", "Attributes:", ":param") or line.startswith(":") for line in lines):
        return
    found: list[str] = []
    listing = False
    for number, line in enumerate(lines):
        match = _ARGUMENT.fullmatch(line) if number else None
        if match:
            item = f"* ``{match[1]}``: {match[2]}" if match[1] else f"* Raises: {match[4]}"
            found += [item] if listing else ["", item]
            listing = True
        elif listing and line.strip():
            found.append(f"  {line.strip()}")
        else:
            found.append(line)
            listing = False
    lines[:] = found


def skip_what_is_elsewhere(app: object, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """A name that a package takes from another is described there."""
    page = app.env.docname  # type: ignore[attr-defined]
    module = getattr(obj, "__module__", None)
    if what != "module" or page == "api/index" or not isinstance(module, str):
        return None
    return True if not module.startswith(page.replace("api/", "glc_train.")) else None


def setup(app: object) -> None:
    """Hooks of Sphinx."""
    app.connect("source-read", read_notebook)  # type: ignore[attr-defined]
    app.connect("source-read", name_files_outside)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", list_arguments)  # type: ignore[attr-defined]
    app.connect("autodoc-skip-member", skip_what_is_elsewhere)  # type: ignore[attr-defined]
