"""The report in a real browser: complete without a network, on a phone, by keyboard and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import DESKTOP, PHONE, Chromium, executable
from tests.unit.report_example import example

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
    assert page.evaluate("document.scripts.length") == 0


def test_every_image_is_there(page: Chromium) -> None:
    sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) == 3
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
    page.call("Emulation.setEmulatedMedia", media="")
    assert page.evaluate(shown) is False
    assert page.pdf().startswith(b"%PDF-")
