"""`glc demo` in a real Chromium, with real files."""

import argparse
import io
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glc_train.cli import _parser, main
from glc_train.data import render_picture
from glc_train.media import read_picture, write_picture
from tests.training_harness import tiny_image

pytest.importorskip("gradio")
pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from glc_train.cli.demo.desk import Desk
from glc_train.cli.demo.pictures import draw_map
from glc_train.cli.demo.server import serving
from tests.chromium import PHONE, launched

HEIGHT, WIDTH = 64, 96
LIMIT = 10_000  # pixels


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_image(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def address(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server in this process, which leaves nothing behind."""
    temporary = tmp_path_factory.mktemp("temporary")
    options = ["--weights", str(weights), "--max-pixels", str(LIMIT), "--max-mb", "1"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_TEMP_DIR", "NO_PROXY", "no_proxy"):  # to be as they were
            patch.setenv(name, "")
        patch.setattr(tempfile, "tempdir", str(temporary))
        with serving(_parser().parse_args(["demo", *options])) as found:
            yield found
        assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, address) as page:
        yield page


class opened:
    """The page; in the end it must have asked nobody else for anything."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.address, self.outside = address, list[str]()

    def __enter__(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        own = (self.address, "data:", "blob:")
        page.on("request", lambda each: None if each.url.startswith(own) else self.outside.append(each.url))
        page.goto(self.address)
        expect(page.get_by_role("tab", name="Picture")).to_be_visible()
        return page

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.outside == []


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "my photo.png"
    write_picture(path, render_picture(HEIGHT, WIDTH, 1))
    return path


def drop(page: Page, path: Path, tab: str = "Picture") -> None:
    page.get_by_role("tab", name=tab).click()
    page.locator('[role=tabpanel]:visible input[type="file"]').first.set_input_files(path)


def shown(page: Page, number: int) -> np.ndarray:
    """The picture on the left (0) or right (1) of the slider."""
    image = page.locator("#compared img").nth(number)
    expect(image).not_to_have_js_property("naturalWidth", 0)
    return fetched(page, image)


def fetched(page: Page, image: Any) -> np.ndarray:
    data = page.request.get(image.get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def downloaded(page: Page, folder: Path) -> Path:
    with page.expect_download() as waited:
        page.get_by_role("button", name=re.compile("^Download ")).locator("visible=true").click()
    path = folder / waited.value.suggested_filename
    waited.value.save_as(path)
    return path


def alert(page: Page) -> str:
    return page.locator("[role=alert]:visible p").inner_text()


def test_a_picture_is_coded_shown_and_downloaded(page: Page, photo: Path, weights: Path, tmp_path: Path) -> None:
    drop(page, photo)
    np.testing.assert_array_equal(shown(page, 0), read_picture(photo))
    file = downloaded(page, tmp_path)
    assert file.name == "my photo.glc"
    assert main(["decompress", str(file), str(tmp_path / "decoded.png"), "--weights", str(weights), "-q"]) == 0
    np.testing.assert_array_equal(shown(page, 1), read_picture(tmp_path / "decoded.png"))
    table = page.locator("table.figures:visible")
    expect(table.locator("tbody tr").first).to_contain_text(f"{file.stat().st_size:,}")
    expect(table.locator("tbody tr").first).to_contain_text(f"{8 * file.stat().st_size / HEIGHT / WIDTH:.4f}")

    page.locator(".choices", has_text="Right").get_by_label("Map of bits").check()
    expect(page.locator("#compared img").nth(1)).to_have_attribute("src", re.compile(r"/2\.png$"))
    assert shown(page, 1).shape == (HEIGHT, WIDTH, 3)
    assert page.locator("[role=alert]:visible").count() == 0
    for name in ("AVIF", "WebP", "JPEG"):  # each in the table, or why it is not
        expect(page.locator("[role=tabpanel]:visible")).to_contain_text(re.compile(f"{name} (at|has|0|1|2)|{name}\n"))


def test_a_number_of_bytes_is_kept_to(page: Page, photo: Path, tmp_path: Path) -> None:
    page.get_by_label("a number of bytes").check()
    page.get_by_label("Bytes at most").fill("20000")
    page.get_by_label("Bytes at most").blur()
    drop(page, photo)
    assert downloaded(page, tmp_path).stat().st_size <= 20000
    page.get_by_label("Bytes at most").fill("5")
    page.get_by_label("Bytes at most").blur()
    page.get_by_role("button", name="Compress").locator("visible=true").click()
    expect(page.locator(".remarks:visible")).to_contain_text("Not even the smallest file is so small")


def test_a_larger_picture_is_made_smaller_on_a_phone_too(browser: Browser, address: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "large.png", render_picture(150, 100, 2))
    with opened(browser, address, **PHONE) as page:
        drop(page, tmp_path / "large.png")
        expect(page.locator(".remarks:visible")).to_contain_text("100×150 pixels are more than this page codes")
        assert shown(page, 0).shape == (122, 81, 3)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.parametrize("tab", ["Picture", "Clip", "Open a file"])
def test_what_is_no_such_file_is_one_sentence(page: Page, tab: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    drop(page, tmp_path / "notes.txt", tab)
    sentence = alert(page)
    assert sentence.startswith("notes.txt")
    assert "\n" not in sentence
    assert str(tmp_path.parent) not in sentence
    expect(page.locator("[role=tabpanel]:visible").get_by_role("button", name=re.compile("^Download "))).to_be_hidden()


def test_a_file_of_too_many_bytes_is_one_sentence(page: Page, tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(bytes(2_000_000))
    drop(page, tmp_path / "big.png")
    expect(page.get_by_text('File(s) exceed the maximum allowed size of 1.0 Mb: "big.png"').first).to_be_visible()


def test_after_a_good_picture_a_truncated_one_leaves_nothing_to_look_at(
    page: Page, photo: Path, tmp_path: Path
) -> None:
    drop(page, photo)
    expect(page.locator("#compared")).to_be_visible()
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:300])
    drop(page, tmp_path / "cut.png")
    assert alert(page).startswith("cut.png: not a readable picture")
    expect(page.locator("#compared")).to_be_hidden()


def test_coded_pictures_are_opened(page: Page, photo: Path, weights: Path, tmp_path: Path) -> None:
    file, png = tmp_path / "a.glc", tmp_path / "a.png"
    assert main(["compress", str(photo), str(file), "--weights", str(weights), "-q"]) == 0
    assert main(["decompress", str(file), str(png), "--weights", str(weights), "-q"]) == 0
    drop(page, file, "Open a file")
    image = page.locator("[role=tabpanel]:visible img").first
    expect(image).to_be_visible()
    np.testing.assert_array_equal(fetched(page, image), read_picture(png))
    np.testing.assert_array_equal(read_picture(downloaded(page, tmp_path / "again")), read_picture(png))


def test_a_damaged_file_is_one_sentence(page: Page, photo: Path, weights: Path, tmp_path: Path) -> None:
    assert main(["compress", str(photo), str(tmp_path / "a.glc"), "--weights", str(weights), "-q"]) == 0
    (tmp_path / "a.glc").write_bytes((tmp_path / "a.glc").read_bytes()[:-4])
    drop(page, tmp_path / "a.glc", "Open a file")
    assert alert(page) == "a.glc is damaged or truncated, its checksum does not match: copy or encode it again."


def test_a_port_that_is_taken_is_one_sentence(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["demo", "--weights", str(weights), "--port", port]) == 1
    assert f"glc: --host 127.0.0.1 --port {port}: cannot be listened on (" in capsys.readouterr().err
    assert main(["demo", "--weights", str(weights), "--port", "70000"]) == 1
    assert capsys.readouterr().err.endswith("name another.\n")


@pytest.mark.parametrize("option", ["--max-mb", "--max-pixels", "--max-frames", "--max-seconds", "--port"])
def test_a_limit_that_is_no_number_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["demo", option, "0"])
    assert f"argument {option}: 0 is not a number from 1 up" in capsys.readouterr().err


def test_a_map_of_bits_is_bright_where_they_are() -> None:
    picture, bits = np.full((20, 30, 3), 128, np.uint8), np.zeros((2, 2))
    bits[1, 0] = 8.0
    drawn = draw_map(picture, bits, 16)
    assert drawn.shape == picture.shape
    assert drawn[18, 3].sum() > 2 * drawn[3, 3].sum()
    np.testing.assert_array_equal(drawn[0, 0], drawn[0, 29])


def test_a_sentence_names_no_folder_of_the_server(tmp_path: Path) -> None:
    desk = Desk(argparse.Namespace(max_pixels=100), tmp_path)
    assert desk.plain(f"{tmp_path}/gradio/0a1b/my photo.png: bad, see /etc/x") == "my photo.png: bad, see /etc/x"
    assert desk.size_within(40, 10) == (20, 5)
    assert desk.size_within(10, 10) == (10, 10)


@pytest.mark.slow
def test_the_command_serves_packaged_pictures_and_clips(browser: Browser, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "glc_train", "demo", "--max-frames", "3"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=None)
    assert run.stdout is not None
    try:
        address = run.stdout.readline().split()[0]
        with opened(browser, address) as page:
            page.locator("#samples button").first.click()
            file = downloaded(page, tmp_path)
            assert file.name == "chelsea.glc"
            assert main(["decompress", str(file), str(tmp_path / "decoded.png"), "-q"]) == 0
            np.testing.assert_array_equal(shown(page, 1), read_picture(tmp_path / "decoded.png"))
            for name in ("AVIF", "WebP", "JPEG"):
                expect(page.locator("table.figures:visible")).to_contain_text(name)
            page.get_by_role("tab", name="Clip").click()
            page.set_default_timeout(200_000)
            page.get_by_role("button", name="Take a pan").click()
            clip = downloaded(page, tmp_path)
            assert clip.name == "pan.glcv"
            expect(page.locator("video:visible")).to_have_js_property("videoWidth", 648)
            expect(page.locator(".remarks:visible")).to_contain_text("Only the first 3 frames were coded.")
            drop(page, clip, "Open a file")
            expect(page.locator("video:visible")).to_have_js_property("videoWidth", 320)
            expect(page.locator("table.figures:visible")).to_contain_text("320×240")
    finally:
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
