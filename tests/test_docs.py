"""The documentation builds as a site without a warning, holds every page and every public name; its notebook runs."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from nbmake.nb_run import NotebookRun

from glc_train.backbones import BackboneError, find_backbone
from tests.pages import BLOCKS

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(out / "cache"), "-b", "html"]
    done = subprocess.run(
        [*command, str(REPOSITORY / "docs"), str(out / "html")], capture_output=True, text=True, cwd=out, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.mark.slow
def test_every_page_is_there(site: Path) -> None:
    for suffix in (".md", ".ipynb"):
        for page in (REPOSITORY / "docs").rglob(f"*{suffix}"):
            if "_build" not in page.parts:
                assert (site / page.relative_to(REPOSITORY / "docs").with_suffix(".html")).is_file(), page


@pytest.mark.slow
def test_the_reference_has_the_public_names(site: Path) -> None:
    codecs = (site / "api" / "codecs.html").read_text()
    assert 'id="glc_train.codecs.ImageCodec.compress"' in codecs.replace("glc_train.codecs.image.", "glc_train.codecs.")
    assert "(B, 3, H, W)" in codecs


@pytest.mark.slow
def test_a_file_outside_is_named_and_not_linked(site: Path) -> None:
    page = (site / "evaluate.html").read_text()
    assert "results/kodak/glc_image_small" in page
    assert 'href="../results' not in page


@pytest.mark.slow
def test_the_notebook_is_a_page_with_its_pictures(site: Path) -> None:
    page = (site / "first_picture.html").read_text()
    assert len(re.findall(r'<img alt="What the cell shows" src="(?:_images/|data:)', page)) == 2
    assert "bits per pixel" in page


def test_the_reference_has_every_package_and_what_the_pages_import() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "glc_train").glob("*/__init__.py")} - {"cli"}
    imported = {
        name
        for block in BLOCKS
        if block.language == "python"
        for name in re.findall(r"^(?:from|import) glc_train\.(\w+)", block.text, flags=re.MULTILINE)
    }
    assert imported
    listed = (REPOSITORY / "docs/api/index.md").read_text()
    for name in packages | imported:
        assert f"({name}.md)" in listed
        assert f"automodule:: glc_train.{name}\n" in (REPOSITORY / f"docs/api/{name}.md").read_text()


def test_the_badges_are_true() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    head = (REPOSITORY / "README.md").read_text().partition("## ")[0]
    (workflow,) = set(re.findall(r"\(\.\./\.\./actions/(workflows/[\w.]+)", head))
    assert (REPOSITORY / ".github" / workflow).is_file()
    assert f"badge/python-{project['requires-python'].removeprefix('>=')}+-" in head
    assert f"badge/licence-{project['license']}-" in head


NOTEBOOK = REPOSITORY / "docs/first_picture.ipynb"


def test_the_notebook_is_small_and_was_run_from_top_to_bottom() -> None:
    assert NOTEBOOK.stat().st_size < 400_000
    text = NOTEBOOK.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    assert not re.search(r"/(home|root|work|tmp)/", text), "a path of the machine that it was run on"


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Path(os.environ.get("GLC_SHARED") or REPOSITORY.parent / "shared") / "weights"
    folder = shared if shared.is_dir() else None
    try:
        for net in ("alexnet", "vgg16"):
            find_backbone(net, folder, download=False)
    except BackboneError as missing:
        pytest.skip(f"the notebook needs the weights of LPIPS and DISTS: {missing}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    if folder:
        monkeypatch.setenv("GLC_WEIGHTS", str(folder))
    result = NotebookRun(NOTEBOOK, default_timeout=600).execute()
    assert result.error is None, result.error
