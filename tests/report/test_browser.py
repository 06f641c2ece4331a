"""The page in a real Chromium, from a file, as by a double click."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glc_train.report import write_page
from tests.report.evaluations import CURVES, TITLES, clips_evaluation, pictures_evaluation

pytest.importorskip("playwright")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.chromium import PHONE, launched

DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    return write_page(folder / "report.html", [pictures_evaluation(folder)], TITLES, CURVES)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    return write_page(folder / "report.html", [clips_evaluation(folder)], TITLES)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    """Opens a page; in the end there must have been no error, and no request but that for the page."""
    troubles: list[str] = []
    contexts = []

    def open_page(path: Path, **options: Any) -> Page:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("data:") else requests.append(request.url))
        requests: list[str] = []
        page.goto(path.as_uri())
        troubles.extend(requests[1:])
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def names(page: Page) -> list[str]:
    return page.locator("#table-body tbody th").all_inner_texts()


def until(page: Page, condition: str) -> None:
    """Waits; Playwright's own waiting would need `eval`, which the page forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_the_table_is_sorted(opened: Any, pictures: Path) -> None:
    page = opened(pictures)
    assert names(page) == ["a1", "a2", "a10"]  # numbers in names count as numbers
    page.get_by_role("button", name="PSNR").last.click()
    assert names(page) == ["a10", "a2", "a1"]
    header = page.locator("th[aria-sort=ascending]")
    expect(header).to_have_text("PSNR (dB) ▲")
    expect(header.get_by_role("button")).to_be_focused()
    page.keyboard.press("Enter")
    assert names(page) == ["a1", "a2", "a10"]
    page.get_by_label("Order").select_option("worst LPIPS first")
    assert names(page) == ["a10", "a2", "a1"]
    page.get_by_label("Order").select_option("best LPIPS first")
    assert names(page) == ["a1", "a2", "a10"]
    page.get_by_role("button", name="Compare a10").press("Enter")
    expect(page.locator("#viewer-title")).to_have_text("Compare: a10")
    page.get_by_label("Quality", exact=True).select_option("1")
    expect(page.locator("#table-body tbody tr").first).to_contain_text("0.1000")


def test_the_curves_are_switched(opened: Any, pictures: Path) -> None:
    page = opened(pictures)
    plot = page.locator("#rates-plot svg[role=img]")
    expect(plot.locator("path.series")).to_have_count(3)
    page.get_by_label("Published curves").uncheck()
    expect(plot.locator("path.series")).to_have_count(2)
    page.get_by_role("button", name="webp").first.press("Enter")
    expect(plot.locator("path.series")).to_have_count(1)
    page.get_by_role("button", name="PSNR (dB)", exact=True).first.click()
    assert "PSNR (dB) over bits per pixel" in (plot.get_attribute("aria-label") or "")
    page.get_by_label("Logarithmic rate").check()
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_have_text("GLC\nquality 0: 0.0500 bpp, PSNR (dB) 19.00")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Quality", exact=True)).to_have_value("1")


def test_the_divider_moves_by_mouse_and_keys(opened: Any, pictures: Path) -> None:
    page = opened(pictures)
    stage, divider = page.locator(".stage"), page.get_by_label("Divider between left and right")
    expect(page.locator(".right img")).to_have_js_property("naturalWidth", 64)
    stage.scroll_into_view_if_needed()
    box, picture = stage.bounding_box(), page.locator(".left .layer").bounding_box()
    assert box
    assert picture
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(picture["x"] + 0.75 * picture["width"], box["y"] + 20, steps=3)
    page.mouse.up()
    assert float(divider.input_value()) == pytest.approx(75, abs=1)
    before = page.locator(".pane.right").evaluate("each => each.style.clipPath")
    divider.focus()
    page.keyboard.press("ArrowLeft")
    assert float(divider.input_value()) == pytest.approx(74.5, abs=1)
    assert page.locator(".pane.right").evaluate("each => each.style.clipPath") != before


def test_both_sides_zoom_and_move_in_step(opened: Any, pictures: Path) -> None:
    page = opened(pictures)

    def transforms() -> list[str]:
        return [
            str(page.locator(f".{side} .layer").evaluate("each => each.style.transform")) for side in ("left", "right")
        ]

    start = transforms()
    page.locator(".stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    left, right = transforms()
    assert left == right != start[0]
    before = page.locator(".left .layer").get_attribute("style") or ""
    page.locator(".stage").hover(position={"x": 40, "y": 40})
    page.mouse.wheel(0, -200)
    expect(page.locator(".left .layer")).not_to_have_attribute("style", before)
    assert transforms()[0] == transforms()[1]
    page.keyboard.press("0")
    assert transforms() == start
    page.get_by_label("Side by side").check()
    left, right = transforms()
    assert left == right != start[0]
    expect(page.locator(".divider")).to_be_hidden()


def test_the_map_of_bits_lies_over_the_picture(opened: Any, pictures: Path) -> None:
    page = opened(pictures)
    page.get_by_label("Map of bits").check()
    canvas = page.locator(".right canvas")
    assert canvas.evaluate("each => [each.width, each.height, each.style.width]") == [4, 3, "64px"]
    expect(page.locator(".scale")).to_contain_text("7.6 bits or more in 16×16 pixels")
    expect(page.get_by_label("Map of bits")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(opened: Any, pictures: Path, clips: Path, scheme: str) -> None:
    for path in (pictures, clips):
        page = opened(path, color_scheme=scheme)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        for summary in page.locator("summary").all():
            summary.click()
        assert violations(page) == []
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_a_phone_shows_it_without_scrolling_sideways(opened: Any, pictures: Path, clips: Path) -> None:
    for path in (pictures, clips):
        page = opened(path, **PHONE)
        assert overflow(page) <= 0
        assert violations(page) == []
    page.touchscreen.tap(180, 20)


def test_it_can_be_printed(opened: Any, pictures: Path) -> None:
    page = opened(pictures, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.locator("nav")).to_be_hidden()
    expect(page.locator("#rates-controls")).to_be_hidden()
    assert page.pdf().startswith(b"%PDF")


def test_clips_play_in_step(opened: Any, clips: Path) -> None:
    page = opened(clips)
    both = page.locator("video")
    expect(both).to_have_count(2)
    until(page, "[...document.querySelectorAll('video')].every(each => each.readyState >= 2)")
    page.get_by_label("Frame 1 of 5").fill("3")
    expect(page.locator("label[for=frame]")).to_have_text("Frame 4 of 5")
    assert float(page.locator("#viewer .cursor").get_attribute("x1") or 0) > 400
    times = both.evaluate_all("all => all.map(each => each.currentTime)")
    assert times == pytest.approx([3.5 / 25] * 2)
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    until(page, "document.querySelector('video').currentTime < 3 / 25")  # it begins again
    expect(page.locator("#viewer h3", has_text="Over the frames")).to_be_visible()
