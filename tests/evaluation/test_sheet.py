"""`glc compare`: a sheet of a picture by our codec and by others, none with more bytes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glc_train.cli import main
from glc_train.media import write_picture
from tests.metrics.rendered import render
from tests.training_harness import tiny_image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_picture(tmp_path / "photo.png", render(160, 96))
    tiny_image(tmp_path / "tiny.safetensors")
    return tmp_path / "photo.png"


def compare(photo: Path, *options: str) -> int:
    return main(["compare", str(photo), "--weights", str(photo.with_name("tiny.safetensors")), *options])


def test_the_sheet_shows_ours_and_the_others_within_the_bytes(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(photo, "--bytes", "2500", "--codecs", "webp,jpeg") == 0
    *lines, path = capsys.readouterr().out.splitlines()
    assert path == str(photo.with_name("photo_compared.png"))
    assert lines[0].startswith("GLC: ")
    assert {line.split(":")[0].split("_")[0] for line in lines[1:]} == {"webp", "jpeg"}
    assert all(int(line.split()[1].replace(",", "")) <= 2500 for line in lines)
    ranks = [float(line.split()[-1]) for line in lines[1:]]
    assert ranks == sorted(ranks, reverse="PSNR" in lines[1])
    with Image.open(path) as sheet:
        first = np.asarray(sheet.convert("RGB"))[:160, :96]
    np.testing.assert_array_equal(first, render(160, 96))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--bytes", "3"], "glc: The smallest file of this picture has "),
        (["--quality", "9"], "glc: quality 9: give 0 to "),
        (["--out", "sheet.txt"], "glc: sheet.txt: give --out the name of a picture file, ending in one of .png,"),
        (["--out", ".", "--overwrite"], "glc: .: give --out the name of a picture file"),
        (["--codecs", "vtm"], "glc: vtm: there is no such codec; choose among avif,"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    options: list[str], sentence: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(photo, *options) == 1
    assert sentence in capsys.readouterr().err
    assert not photo.with_name("photo_compared.png").exists()


def test_a_sheet_that_exists_is_kept(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo.with_name("photo_compared.png").touch()
    assert compare(photo) == 1
    assert "exists: give --overwrite" in capsys.readouterr().err
