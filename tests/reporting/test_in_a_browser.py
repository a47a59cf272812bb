"""The page in Chromium: no errors, no network, hovered points move, tables sort, any screen."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.reporting.conftest import CLASSES

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 300_000  # milliseconds, on a machine with other work
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        options = {"executable_path": BROWSER, "args": FLAGS.split(), "timeout": PATIENCE}
        running = playwright.chromium.launch(**options)
        yield running
        running.close()


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["desktop", "phone"], scope="module")
def opened(request, browser: Browser, page_path: Path) -> Iterator[Page]:
    """The page, offline; whatever it says on the console or asks of a network is an error."""
    width, scheme = request.param
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    context.set_default_timeout(PATIENCE)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(page_path.as_uri())
    yield page
    context.close()
    assert [text for text in said if not text.startswith(("file:", "data:", "blob:"))] == []


def expect_motion(canvas: Locator) -> None:
    """Wait until a canvas shows something else than it does."""
    canvas.scroll_into_view_if_needed()
    before = canvas.evaluate("(canvas) => canvas.toDataURL()")
    canvas.page.wait_for_function(
        "([canvas, before]) => canvas.toDataURL() !== before",
        arg=[canvas.element_handle(), before],
    )


def test_the_page_fits_the_screen(opened: Page, tmp_path: Path) -> None:
    size = opened.viewport_size
    assert size
    assert opened.evaluate("document.documentElement.scrollWidth") <= size["width"]
    path = tmp_path / "page.png"
    opened.screenshot(path=path)
    assert path.stat().st_size > 10_000
    for plot in (
        "embedding-plot",
        "confusion-plot",
        "classes-plot",
        "attention-plot",
        "curve-loss",
    ):
        box = opened.locator(f"#{plot} svg.main-svg").first.bounding_box()
        assert box
        assert box["width"] > 200
    # names are shown as they are
    legend = opened.locator("#embedding-plot .legendtext").all_text_contents()
    assert legend == [name if len(name) <= 22 else f"{name[:21]}…" for name in CLASSES]


def test_hovering_a_point_plays_its_clip(opened: Page) -> None:
    caption = opened.locator("#embedding-panel figcaption").first
    canvas = opened.locator("#embedding-panel canvas").first
    points = opened.locator("#embedding-plot .scatterlayer .point")
    expect(points).to_have_count(12)
    expect(canvas).to_be_visible()
    played = set()
    for number in (5, 9):
        before = str(caption.text_content())
        points.nth(number).scroll_into_view_if_needed()
        box = points.nth(number).bounding_box()
        assert box
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
        expect(caption).not_to_have_text(before)
        expect(caption).to_have_text(re.compile(r"· <i>\d\d</i>$"))
        played.add(canvas.get_attribute("data-film"))
        expect_motion(canvas)
    assert len(played) == 2


def test_all_skeletons_are_drawn_and_those_in_view_move(opened: Page) -> None:
    opened.wait_for_function(
        "() => [...document.querySelectorAll('canvas[data-film]')].every((canvas) => "
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.some(Boolean))"
    )
    for section in ("gallery", "attention", "views"):
        expect_motion(opened.locator(f"#{section} canvas").first)


def test_errors_are_sorted_searched_and_played(opened: Page) -> None:
    column = opened.locator("#errors-table tbody tr:not([hidden]) td:nth-child(5)")
    unsorted = column.all_text_contents()
    opened.get_by_role("button", name="its distance").click()
    assert column.all_text_contents() == sorted(unsorted)
    opened.get_by_role("button", name="its distance").click()
    assert column.all_text_contents() == sorted(unsorted, reverse=True)
    names = opened.locator("#errors-table tbody tr:not([hidden]) td:first-child")
    wanted = str(names.last.text_content())
    opened.locator("#errors-search").fill(wanted.upper())
    assert wanted in names.all_text_contents()
    assert names.count() < len(unsorted)
    names.first.hover()
    first = re.compile(re.escape(str(names.first.text_content())))
    expect(opened.locator("#errors-panel figcaption").first).to_have_text(first)


def test_who_wants_no_motion_gets_none(browser: Browser, page_path: Path) -> None:
    context = browser.new_context(reduced_motion="reduce", offline=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(page_path.as_uri())
    canvas = page.locator("#gallery canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    before = canvas.evaluate("(canvas) => canvas.toDataURL()")
    page.wait_for_timeout(500)
    assert canvas.evaluate("(canvas) => canvas.toDataURL()") == before
    context.close()
