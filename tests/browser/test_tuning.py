"""The review band in a real browser: by mouse, by touch and from the keyboard, while the figures follow."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.accessibility import grave_findings
from browser.dashboard_process import Dashboard
from browser.watching import choose_page, settle

OpenPage = Callable[..., Page]

HANDLES = {"T1": "T1, review from", "T2": "T2, defect from", "band": "Review band, both thresholds"}
TABS = ("Verdicts", "What flips", "Curves", "By kind", "Suggest", "Apply and history")
# Milliseconds between two movements of the mouse: some sixty a second, as a hand makes them.
_FRAME = 16


@pytest.fixture
def tuning(drawn_dashboard: Dashboard, open_page: OpenPage) -> Page:
    """The page, light, at 1280 pixels."""
    page = open_page(drawn_dashboard, height=1000)
    choose_page(page, "Tune thresholds")
    return page


def handle(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=HANDLES[name], exact=True)


def value(page: Page, name: str) -> float:
    return float(handle(page, name).get_attribute("aria-valuenow") or "nan")


def tile(page: Page, name: str) -> str:
    found = page.get_by_test_id("stMetric").filter(has_text=name).get_by_test_id("stMetricValue")
    return found.inner_text().replace("\u00a0", " ")


def box(page: Page, name: str) -> float:
    return float(page.get_by_role("spinbutton", name=HANDLES[name]).input_value())


def centre(part: Locator) -> tuple[float, float]:
    found = part.bounding_box()
    assert found is not None
    return found["x"] + found["width"] / 2, found["y"] + found["height"] / 2


def grip(page: Page, name: str) -> tuple[float, float]:
    """Where a handle, or the band, is taken."""
    if name == "band":
        return centre(page.locator("rect.grab"))
    return centre(handle(page, name).locator(".grip"))


def test_the_figures_follow_a_drag_and_nothing_jumps_back(tuning: Page) -> None:
    page = tuning
    before = tile(page, "Overkill"), tile(page, "Review load")
    svg = page.locator(".band svg").element_handle()
    x, y = grip(page, "T2")
    page.mouse.move(x, y)
    page.mouse.down()
    seen, tiles = [value(page, "T2")], set()
    for step in range(1, 120):
        page.mouse.move(x - 1.4 * step, y + step % 3)
        page.wait_for_timeout(_FRAME)
        seen.append(value(page, "T2"))
        tiles.add((tile(page, "Overkill"), tile(page, "Review load")))
    # The handle is under the pointer at once, whatever the server still counts.
    assert abs(grip(page, "T2")[0] - (x - 1.4 * 119)) < 3
    assert all(later <= earlier for earlier, later in pairwise(seen))
    # Figures changed before the button was let go.
    assert len(tiles | {before}) >= 3
    page.mouse.up()
    last = value(page, "T2")
    for _ in range(40):
        page.wait_for_timeout(_FRAME)
        assert value(page, "T2") == last
    settle(page)
    assert value(page, "T2") == box(page, "T2") == last
    assert tile(page, "Overkill") != before[0]
    # The very drawing that was there before: nothing was built anew by all these answers.
    assert page.evaluate("drawing => drawing.isConnected", svg)


def test_a_threshold_pushes_the_other_and_the_band_keeps_its_width(tuning: Page) -> None:
    page = tuning
    review, defect = value(page, "T1"), value(page, "T2")
    drag(page, "band", 90)
    moved = value(page, "T1"), value(page, "T2")
    assert moved[0] > review
    assert abs((moved[1] - moved[0]) - (defect - review)) < 0.011
    assert (box(page, "T1"), box(page, "T2")) == pytest.approx(moved, abs=0.006)
    drag(page, "T1", 260)
    assert value(page, "T1") == value(page, "T2") > moved[1]
    # Both can still be taken where they are the same.
    drag(page, "T1", -120)
    assert value(page, "T1") < value(page, "T2")
    drag(page, "T2", -200)
    assert value(page, "T1") == value(page, "T2")


def test_a_threshold_that_was_pushed_stays_when_the_next_click_comes_at_once(tuning: Page) -> None:
    page = tuning
    typed = page.get_by_role("spinbutton", name=HANDLES["T1"])
    tab = page.get_by_role("tab", name="Curves").element_handle()
    before = page.get_by_role("tab", name="Verdicts").element_handle()
    for number in range(12):
        wanted = f"{value(page, 'T2') + 0.05:.2f}"
        typed.fill(wanted)
        # The browser is not told of T2 before it sends the click: it sends the T2 that it still shows.
        typed.evaluate(
            """(box, tab) => {
              box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));
              box.dispatchEvent(new KeyboardEvent('keypress', {key: 'Enter', bubbles: true}));
              setTimeout(() => tab.click(), 12);
            }""",
            before if number % 2 else tab,
        )
        page.wait_for_timeout(100)
        settle(page)
        assert (box(page, "T1"), box(page, "T2")) == (float(wanted), float(wanted)), number
        assert value(page, "T1") == value(page, "T2") == float(wanted)


def drag(page: Page, name: str, by: float) -> None:
    x, y = grip(page, name)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=8)
    page.mouse.up()
    settle(page)


def test_every_key_moves_a_handle_and_the_figures(tuning: Page) -> None:
    page = tuning
    upper = float(handle(page, "T2").get_attribute("aria-valuemax") or "nan")
    assert handle(page, "T2").get_attribute("aria-valuemin") == "0"
    handle(page, "T2").focus()
    start = value(page, "T2")
    for key, step in (
        ("ArrowLeft", -0.01),
        ("ArrowRight", 0.01),
        ("ArrowUp", 0.01),
        ("ArrowDown", -0.01),
        ("Shift+ArrowRight", 0.1),
        ("Shift+ArrowLeft", -0.1),
        ("PageUp", 0.5),
        ("PageDown", -0.5),
    ):
        page.keyboard.press(key)
        assert value(page, "T2") == pytest.approx(start + step, abs=0.006), key
        start = value(page, "T2")
        assert f"T2 {start:.2f}" in (handle(page, "T2").get_attribute("aria-valuetext") or "")
    page.keyboard.press("Home")
    settle(page)
    assert value(page, "T1") == value(page, "T2") == box(page, "T2") == 0
    assert tile(page, "Review load") == "0 %"
    page.keyboard.press("End")
    settle(page)
    assert value(page, "T2") == pytest.approx(upper, abs=0.006)
    assert value(page, "T1") == 0
    # The focus is where it was, after all these answers.
    assert (
        page.evaluate("document.activeElement.shadowRoot?.activeElement?.getAttribute('aria-label')")
        == (HANDLES["T2"])
    )
    page.get_by_role("button", name="Reset").click()
    settle(page)
    handle(page, "band").focus()
    first, second = value(page, "T1"), value(page, "T2")
    page.keyboard.press("Shift+ArrowRight")
    settle(page)
    assert (value(page, "T1"), value(page, "T2")) == pytest.approx((first + 0.1, second + 0.1), abs=0.011)


def test_a_finger_drags_a_handle_and_does_not_scroll(drawn_dashboard: Dashboard, open_page: OpenPage) -> None:
    page = open_page(drawn_dashboard, height=1000)
    choose_page(page, "Tune thresholds")
    finger = page.context.new_cdp_session(page)
    finger.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    x, y = grip(page, "T2")
    scrolled = "document.querySelector('[data-testid=stMain]').scrollTop"
    before, above = value(page, "T2"), page.evaluate(scrolled)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        told = [{"x": a, "y": b} for a, b in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

    touch("touchStart", (x, y))
    for step in range(1, 21):
        touch("touchMove", (x + 4 * step, y + 6 * step))
        page.wait_for_timeout(_FRAME)
    touch("touchEnd")
    settle(page)
    assert value(page, "T2") > before
    assert value(page, "T2") == box(page, "T2")
    assert page.evaluate(scrolled) == above


def test_on_the_axis_of_p_values_the_same_handles_move(tuning: Page) -> None:
    page = tuning
    page.get_by_role("radio", name="p-value").or_(page.get_by_text("p-value", exact=True)).first.click()
    settle(page)
    before = value(page, "T1"), value(page, "T2")
    drag(page, "T1", -150)
    assert value(page, "T1") < before[0]
    assert value(page, "T2") == before[1]
    assert value(page, "T1") == pytest.approx(box(page, "T1"), abs=0.006)


def test_a_bar_leads_to_its_pictures_by_mouse_and_by_keyboard(tuning: Page) -> None:
    page = tuning
    cell = page.locator("g.row").first.locator("rect.cell").first
    page.mouse.click(*centre(cell))
    settle(page)
    link = page.get_by_role("link", name="see them in the gallery")
    told = parse_qs(urlsplit(link.get_attribute("href") or "").query)
    assert told["truth"] == ["good"]
    assert {"from", "to"} <= set(told)
    row = page.locator("g.row").nth(1)
    row.focus()
    page.keyboard.press("ArrowRight")
    assert "defect, strangeness" in page.locator(".told").inner_text()
    page.keyboard.press("Enter")
    # The link is there already, and is told of the other bar when the server has answered.
    expect(link).to_have_attribute("href", re.compile(r"[?&]truth=defect(&|$)"))
    link.click()
    settle(page)
    assert urlsplit(page.url).path == "/gallery"


def test_a_cell_opens_the_gallery_judged_by_the_thresholds_on_the_page(tuning: Page) -> None:
    page = tuning
    handle(page, "T1").focus()
    page.keyboard.press("Home")
    settle(page)
    cells = page.get_by_role("tabpanel").get_by_role("link")
    link = next(cell for cell in cells.all() if "verdict=REVIEW" in (cell.get_attribute("href") or ""))
    told = parse_qs(urlsplit(link.get_attribute("href") or "").query)
    assert told["t1"] == ["0"]
    assert told["verdict"] == ["REVIEW"]
    link.click()
    settle(page)
    assert urlsplit(page.url).path == "/gallery"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_has_a_serious_finding(drawn_dashboard: Dashboard, open_page: OpenPage, scheme: str) -> None:
    page = open_page(drawn_dashboard, scheme=scheme, height=1400)
    choose_page(page, "Tune thresholds")
    handle(page, "T1").focus()
    page.keyboard.press("PageDown")
    settle(page)
    found = {}
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        settle(page)
        found[tab] = grave_findings(page)
    assert not any(found.values()), found
