"""From an empty record to a tuned threshold and a downloaded report, in the browser alone."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from browser.watching import choose_page, settle

REASON = "fewer parts to look at"


@dataclass(frozen=True)
class Walked:
    """What became of the walk.

    Attributes:
        seconds: That each step took, from the click to its end on the page.
        report: The file that was downloaded.
        losses_seen: Whether the page showed how the loss falls, while it was training or after.
        left_seen: Whether the page said how long the training would still take, while it was going on.
    """

    seconds: dict[str, float]
    report: Path
    losses_seen: bool
    left_seen: bool


def from_nothing_to_a_report(page: Page, folder: Path, patience: float) -> Walked:
    """Walk the five steps of the page Start.

    Args:
        page: A dashboard over an empty record, as it has just been opened.
        folder: To put the download into.
        patience: Seconds that one step may take.

    Returns:
        What became of it.

    Raises:
        AssertionError: A step does not lead to the next.
    """
    seconds: dict[str, float] = {}
    expect(page.get_by_role("heading", name="Start", level=1)).to_be_visible()
    train = button(page, "Train with the usual settings")
    expect(train).to_be_disabled()

    started = time.monotonic()
    button(page, "Make the sample product").click()
    expect(train).to_be_enabled(timeout=patience * 1000)
    seconds["make the sample product"] = time.monotonic() - started

    inspect = button(page, "Inspect the folder")
    expect(inspect).to_be_disabled()
    started = time.monotonic()
    train.click()
    left_seen = losses_seen = False
    while inspect.is_disabled():
        given_up = time.monotonic() - started > patience or button(page, "Start again").count() > 0
        if given_up and inspect.is_disabled():
            raise AssertionError(f"no model: {page.get_by_test_id('stMain').inner_text()[:3000]}")
        left_seen |= page.get_by_text(re.compile(r"about .+ left")).count() > 0
        losses_seen |= page.get_by_test_id("stVegaLiteChart").count() > 0
        # The page itself looks every second and a half.
        page.wait_for_timeout(100)
    seconds["train"] = time.monotonic() - started

    started = time.monotonic()
    inspect.click()
    gallery = button(page, "Open in the gallery")
    tune = button(page, "Tune")
    expect(gallery).to_be_visible(timeout=patience * 1000)
    expect(tune).to_be_enabled(timeout=patience * 1000)
    seconds["inspect"] = time.monotonic() - started

    started = time.monotonic()
    tune.click()
    expect(page.get_by_role("heading", name="Tune thresholds", level=1)).to_be_visible()
    settle(page)
    put_in_force(page)
    seconds["tune and put in force"] = time.monotonic() - started

    choose_page(page, "Train")
    losses_seen |= page.get_by_test_id("stVegaLiteChart").count() > 0
    choose_page(page, "Start")
    started = time.monotonic()
    button(page, "Write the report").click()
    download = page.get_by_role("button", name=re.compile(r"Download .*(report|html)", re.IGNORECASE)).first
    expect(download).to_be_enabled(timeout=patience * 1000)
    settle(page)
    with page.expect_download() as coming:
        download.click()
    report = folder / coming.value.suggested_filename
    coming.value.save_as(report)
    seconds["write and download the report"] = time.monotonic() - started
    return Walked(seconds, report, losses_seen, left_seen)


def put_in_force(page: Page) -> None:
    """Raise T1 a little on the page Tune thresholds, say why, and put it in force."""
    box = number_box(page, "T1, review from")
    wanted = f"{float(box.input_value()) + 0.05:.2f}"
    box.fill(wanted)
    page.keyboard.press("Enter")
    expect(box).to_have_value(wanted)
    page.get_by_role("tab", name="Apply and history").click()
    settle(page)
    reason = page.get_by_label("Reason", exact=True).and_(page.locator("input"))
    reason.fill(REASON)
    page.keyboard.press("Enter")
    apply = button(page, "Put in force")
    expect(apply).to_be_enabled()
    apply.click()
    expect(page.get_by_text(re.compile(r"Revision \d+ is in force"))).to_be_visible()
    settle(page)


def button(page: Page, name: str) -> Locator:
    """The button of a name."""
    return page.get_by_test_id("stMain").get_by_role("button", name=name, exact=True)


def number_box(page: Page, name: str) -> Locator:
    """The box of a name, and nothing else that is called so."""
    return page.get_by_label(name, exact=True).and_(page.locator("input"))
