"""The page in Chromium: no errors, no network, hovered points move, tables sort, any screen."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.reporting.conftest import CLASSES

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
# what is drawn on a canvas, as text
DRAWN = "(canvas) => canvas.toDataURL()"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS.split())
        yield running
        running.close()


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["desktop", "phone"])
def opened(request, browser: Browser, page_path: Path) -> Iterator[Page]:
    """The page, offline; whatever it says on the console or asks of a network is an error."""
    width, scheme = request.param
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(page_path.as_uri())
    yield page
    context.close()
    assert [text for text in said if not text.startswith(("file:", "data:", "blob:"))] == []


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
    panel = opened.locator("#embedding-panel")
    captions, films = set(), set()
    points = opened.locator("#embedding-plot .scatterlayer .point")
    assert points.count() == 12
    for number in (0, 7):
        points.nth(number).scroll_into_view_if_needed()
        box = points.nth(number).bounding_box()
        assert box
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.wait_for_timeout(300)
        captions.add(panel.locator("figcaption").first.text_content())
        films.add(panel.locator("canvas").first.get_attribute("data-film"))
        canvas = panel.locator("canvas").first
        canvas.scroll_into_view_if_needed()
        before = canvas.evaluate(DRAWN)
        opened.wait_for_timeout(400)
        assert canvas.evaluate(DRAWN) != before
    assert len(films) == len(captions) == 2
    assert all(re.search(r"· <i>\d\d</i>$", str(caption)) for caption in captions)


def test_all_skeletons_are_drawn_and_those_in_view_move(opened: Page) -> None:
    opened.wait_for_timeout(500)
    blank = opened.evaluate(
        "() => [...document.querySelectorAll('canvas[data-film]')].filter((canvas) =>"
        "canvas.clientWidth && !canvas.getContext('2d').getImageData(0, 0, canvas.width,"
        "canvas.height).data.some(Boolean)).length"
    )
    assert blank == 0
    for section in ("gallery", "attention", "views"):
        canvas = opened.locator(f"#{section} canvas").first
        canvas.scroll_into_view_if_needed()
        before = canvas.evaluate(DRAWN)
        opened.wait_for_timeout(400)
        assert canvas.evaluate(DRAWN) != before


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
    found = names.all_text_contents()
    assert wanted in found
    assert len(found) < len(unsorted)
    names.first.hover()
    assert str(names.first.text_content()) in str(
        opened.locator("#errors-panel figcaption").first.text_content()
    )


def test_who_wants_no_motion_gets_none(browser: Browser, page_path: Path) -> None:
    context = browser.new_context(reduced_motion="reduce", offline=True)
    page = context.new_page()
    page.goto(page_path.as_uri())
    canvas = page.locator("#gallery canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    before = canvas.evaluate(DRAWN)
    page.wait_for_timeout(400)
    assert canvas.evaluate(DRAWN) == before
    context.close()
