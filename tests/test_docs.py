"""The documentation builds as a site without a warning, and holds every page and every public name."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(out / "cache"), "-b", "html"]
    done = subprocess.run(
        [*command, str(REPOSITORY / "docs"), str(out / "html")], capture_output=True, text=True, cwd=out, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


def test_every_page_is_there(site: Path) -> None:
    for page in (REPOSITORY / "docs").glob("**/*.md"):
        if "_build" not in page.parts:
            assert (site / page.relative_to(REPOSITORY / "docs").with_suffix(".html")).is_file(), page


def test_the_reference_has_the_public_names(site: Path) -> None:
    codecs = (site / "api" / "codecs.html").read_text()
    assert 'id="glc_train.codecs.ImageCodec.compress"' in codecs.replace("glc_train.codecs.image.", "glc_train.codecs.")
    assert "(B, 3, H, W)" in codecs


def test_a_file_outside_is_named_and_not_linked(site: Path) -> None:
    page = (site / "evaluate.html").read_text()
    assert "results/kodak/glc_image_small" in page
    assert 'href="../results' not in page
