"""The report in a real browser: complete without a network or scripts, on a phone, by keyboard, in the dark and on
paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import DESKTOP, PHONE, Chromium, executable
from tests.unit.report_example import HOSTILE, example

pytestmark = pytest.mark.skipif(executable() is None, reason="no chromium in PATH")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = example(tmp_path_factory.mktemp("report"))
    given.write()
    return given.output


@pytest.fixture(scope="module", params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, report: Path) -> Iterator[Chromium]:
    with Chromium(*request.param) as browser:
        browser.open(report)
        yield browser


def test_it_loads_without_a_message_and_asks_for_nothing_else(page: Chromium, report: Path) -> None:
    messages = [
        e for e in page.events if e[0] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert messages == []
    asked = {params["request"]["url"] for method, params in page.events if method == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert page.evaluate("document.scripts.length") == 1


def test_every_image_is_there(page: Chromium) -> None:
    sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) == 4
    assert all(size > 0 for size in sizes)


def test_the_page_does_not_scroll_sideways(page: Chromium) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    width = page.size[0]
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = "[...document.querySelectorAll('body *')].filter(part => !part.closest('.scroll'))"
    assert max(page.evaluate(f"{outside}.map(part => part.getBoundingClientRect().right)")) <= width


def test_the_first_tab_reaches_the_skip_link_and_it_leads_to_the_report(page: Chromium) -> None:
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0, "it is seen when it has the focus"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "Main"
    page.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_it_prints(page: Chromium) -> None:
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = false })")
    shown = "document.querySelector('.runs').checkVisibility()"
    assert page.evaluate(shown) is True, "what is folded prints too"
    for kind in (".values", ".tip", ".enlarge", ".hint", ".rule", ".read"):
        assert page.evaluate(f"document.querySelector('{kind}').checkVisibility()") is False, (
            f"{kind} is for the screen"
        )
    assert page.evaluate("document.querySelector('.map td a').checkVisibility()") is True
    page.evaluate("location.hash = 'Headline'")
    assert page.evaluate("getComputedStyle(document.querySelector('#Headline')).position") == "static"
    page.evaluate("location.hash = ''")
    page.call("Emulation.setEmulatedMedia", media="")
    assert page.evaluate(shown) is False
    assert page.pdf().startswith(b"%PDF-")


# ---------------------------------------------------------------- on the first screen
def box(page: Chromium, selector: str) -> dict[str, float]:
    """Where an element is in the window, in CSS pixels."""
    return page.evaluate(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")


def test_the_answer_is_on_the_first_screen(page: Chromium) -> None:
    page.evaluate("scrollTo(0, 0)")
    shown = ["#Claims", "#Headline img", *([".map"] if page.size == DESKTOP else [])]
    for part in shown:
        assert box(page, part)["bottom"] <= page.size[1], part
    figure, verdicts = box(page, "#Headline img"), box(page, ".map")
    side_by_side = figure["right"] <= verdicts["left"] and figure["top"] < verdicts["bottom"]
    assert side_by_side is (page.size == DESKTOP)


def test_a_cell_says_what_was_measured_under_the_mouse_and_the_focus(page: Chromium) -> None:
    tip = ".map td a .tip"
    page.point(0, 0)
    page.evaluate("document.querySelector('.map td a').scrollIntoView({block: 'center'})")
    assert box(page, tip)["height"] <= 1
    cell = box(page, ".map td a")
    page.point(cell["x"] + 5, cell["y"] + 5)
    for _ in "mouse", "focus":
        own = box(page, tip)
        assert own["height"] > 20
        assert (own["left"], own["right"], own["bottom"]) == (0, *page.size), "it is seen, and covers no other cell"
        page.point(0, 0)
        page.evaluate("document.querySelector('.map td a').focus({focusVisible: true})")
    page.evaluate("document.activeElement.blur()")
    assert box(page, tip)["height"] <= 1


# ---------------------------------------------------------------- reading off
def pointed(page: Chromium, x: float, y: float) -> list[str]:
    """What is read at a place of the first figure's image, given as fractions of it: lines, the nearest with a star."""
    page.evaluate("document.querySelector('#song-fig01-Image img').scrollIntoView({block: 'center'})")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => true)")
    image = box(page, "#song-fig01-Image img")
    page.point(image["x"] + x * image["width"], image["y"] + y * image["height"])
    lines = "[...document.querySelector('.read').children]"
    text = "(line => [...line.childNodes].map(part => part.textContent).filter(Boolean).join(' '))"
    shown = page.evaluate("document.querySelector('.read').checkVisibility()")
    own = page.evaluate(f"{lines}.map(line => ({text})(line) + (line.className === 'next' ? ' *' : ''))")
    return own if shown else []


def test_values_are_read_off_under_the_pointer(page: Chromium) -> None:
    assert pointed(page, 0.1, 0.2) == ["step: 0", "SGD 1 *", f"{HOSTILE} 1"], "a corner, with the value of both lines"
    assert pointed(page, 0.121, 0.5) == ["step: 2", f"{HOSTILE} 0.0123 *"], "SGD has none there"
    assert pointed(page, 0.3, 0.25) == ["step: 20", "SGD 0.5 *", f"{HOSTILE} 0.0123"]
    middle = 0.2 + 0.6 / 4  # of the values 1 and 0.1 on the logarithmic axis
    assert pointed(page, 0.3, middle)[1] == "SGD 0.5 *"
    assert pointed(page, 0.3, 0.6)[2] == f"{HOSTILE} 0.0123 *"
    assert page.evaluate("document.querySelector('.rule').getBoundingClientRect().x") == pytest.approx(
        box(page, "#song-fig01-Image img")["x"] + 0.3 * box(page, "#song-fig01-Image img")["width"], abs=1
    )
    assert pointed(page, 0.85, 0.3) == ["α: 0.25", "β = 1 82.25 *", "β = 0 20"]
    assert pointed(page, 0.7, 0.7) == ["α: 0", "β = 0 10 *"]
    assert pointed(page, 0.55, 0.5) == [], "between the panels"
    for x in (0.1, 0.3, 0.89):
        pointed(page, x, 0.5)
        own = box(page, ".read")
        assert own["left"] >= 0
        assert own["right"] <= page.size[0]
    page.point(0, 0)
    assert page.evaluate("document.querySelector('.read').checkVisibility()") is False


def test_a_figure_is_enlarged_and_closed(page: Chromium) -> None:
    before = box(page, "#song-fig01-Image img")["width"]
    page.evaluate("document.querySelector('#song-fig01-Image .enlarge').click()")
    page.evaluate("new Promise(done => setTimeout(() => done(true), 100))")
    image, around = box(page, "#song-fig01-Image img"), box(page, "#song-fig01-Image")
    assert image["width"] >= max(5 / 3 * before - 1, page.size[0] - 60)
    assert (around["x"], around["y"], around["right"], around["bottom"]) == (0, 0, *page.size)
    assert pointed(page, 0.3, 0.25)[:2] == ["step: 20", "SGD 0.5 *"], "it is read off there too"
    page.press("Escape")
    page.evaluate("new Promise(done => setTimeout(() => done(true), 100))")
    assert page.evaluate("location.hash") == "#song-fig01"
    assert box(page, "#song-fig01-Image img")["width"] == before


def test_without_scripts_figures_are_enlarged_and_values_are_in_tables(report: Path) -> None:
    with Chromium() as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.open(report)
        assert page.evaluate("document.querySelector('.hint').checkVisibility()") is False, (
            "it promises what is not there"
        )
        assert page.evaluate("document.querySelector('.read') === null")
        page.evaluate("document.querySelector('.values summary').scrollIntoView({block: 'center'})")
        summary = box(page, ".values summary")
        click(page, summary["x"] + 5, summary["y"] + 5)
        assert page.evaluate("document.querySelector('.values td').checkVisibility()") is True
        page.evaluate("document.querySelector('#song-fig01-Image .enlarge').scrollIntoView({block: 'center'})")
        link = box(page, "#song-fig01-Image .enlarge")
        click(page, link["x"] + 5, link["y"] + 5)
        assert page.evaluate("getComputedStyle(document.querySelector('#song-fig01-Image')).position") == "fixed"
        link = box(page, "#song-fig01-Image .close")
        click(page, link["x"] + 20, link["y"] + 15)
        assert page.evaluate("getComputedStyle(document.querySelector('#song-fig01-Image')).position") == "static"


def click(page: Chromium, x: float, y: float) -> None:
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    page.call("Page.getLayoutMetrics")


# ---------------------------------------------------------------- light and dark
def test_it_is_dark_for_who_prefers_that_and_light_on_paper(page: Chromium) -> None:
    def brightness(selector: str, what: str) -> float:
        colour = page.evaluate(f"getComputedStyle(document.querySelector({selector!r})).{what}")
        return sum(map(float, colour[4:-1].split(","))) / (3 * 255)

    for scheme, dark in (("light", False), ("dark", True)):
        page.prefer(scheme)
        assert (brightness("body", "backgroundColor") < 0.15) is dark
        texts = ("body", "h3 .number", ".map th a", ".map .holds", ".map .fails", ".map .open", "main a", "figcaption")
        for text in texts:
            assert (brightness(text, "color") > 0.5) is dark, text
    assert brightness("figure .scroll", "backgroundColor") == 1, "images have a white ground"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert brightness("body", "backgroundColor") == 1
    assert brightness("body", "color") < 0.2
    page.call("Emulation.setEmulatedMedia", media="", features=[])
