"""What an engineer does in a day, in the browser alone, on real pictures: magnetic tiles of five defects."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from typer.testing import CliRunner

from browser.accessibility import grave_findings
from browser.dashboard_process import Dashboard, served
from browser.journey import REASON, from_nothing_to_a_report, number_box
from browser.watching import choose_page, corners, menu_titles, settle
from differnet.cli import app
from differnet.detection import DensitySettings, DetectorSettings
from differnet.evaluation.intervals import percent
from differnet.reporting.counts import Truth, VerdictCounts, columns_of_table, verdict_counts
from differnet.store import Asked, Store

OpenPage = Callable[..., Page]

TILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mtd"
# Every so manieth test picture, and so many good ones to learn from: the story is of pages, not of accuracy.
_EVERY, _LEARNED = 3, 60
_RUN = "tiles"


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory, browser_program: str) -> Path:
    """A workspace with a small model of the tiles and a run of a third of their test set."""
    if not TILES.is_dir():
        pytest.skip("the magnetic tiles are not there: ../shared/data/mtd")
    folder = tmp_path_factory.mktemp("tiles")
    learned = set((TILES / "train_filenames.txt").read_text().split())
    for kind in sorted(TILES.glob("MT_*")):
        (folder / "data" / kind.name / "Imgs").mkdir(parents=True)
        pictures = sorted(kind.glob("Imgs/*.jpg"))
        training = [picture for picture in pictures if picture.name in learned]
        tested = [picture for picture in pictures if picture.name not in learned]
        for picture in (*training[:_LEARNED], *tested[::_EVERY]):
            for file in (picture, picture.with_suffix(".png")):
                (folder / "data" / kind.name / "Imgs" / file.name).symlink_to(file)
    (folder / "data" / "train_filenames.txt").symlink_to(TILES / "train_filenames.txt")
    density = DensitySettings(steps=30, hidden=16, couplings=2)

    class Short(DetectorSettings):
        def __init__(self, **chosen: Any) -> None:
            super().__init__(**{"density": density, "folds": 2, **chosen})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("differnet.detection.DetectorSettings", Short)
        # A wide band, so that there is enough to review.
        wide = ["--alpha-review", "0.2"]
        model, run = folder / "models" / "tile", folder / "runs" / _RUN
        for words in (
            ["train", folder / "data", "--layout", "mtd", "--image-size", "96", "--out", model, *wide],
            ["inspect", model, folder / "data", "--layout", "mtd", "--out", run],
        ):
            ended = CliRunner().invoke(app, [str(word) for word in words])
            assert ended.exit_code == 0, ended.stderr
    return folder


@pytest.fixture(scope="session")
def tile_dashboard(tiles: Path) -> Iterator[Dashboard]:
    """A dashboard over the tiles. Tests share it, as people do."""
    with served(tiles, tiles / "runs") as dashboard:
        yield dashboard
        assert "Traceback" not in dashboard.said(), dashboard.said()[-4000:]
        assert dashboard.called() <= {"127.0.0.1", "localhost"}


def go(page: Page, title: str) -> None:
    """Go to a page, or skip where this dashboard does not offer it yet."""
    if title not in menu_titles(page):
        pytest.skip(f"the menu offers no page {title}")
    choose_page(page, title)


def metric(page: Page, name: str) -> Locator:
    """The value of a metric."""
    whole = page.get_by_test_id("stMetric").filter(has=page.get_by_text(name, exact=True))
    return whole.get_by_test_id("stMetricValue")


def box(page: Page, name: str) -> float:
    """What a box for a number holds."""
    return float(number_box(page, name).input_value())


def true_counts(dashboard: Dashboard, t_review: float, t_defect: float) -> VerdictCounts:
    """Count the run by the functions that the page must have used, without a page."""
    store = Store.open(dashboard.place)
    counts = verdict_counts(columns_of_table(store.table(_run_of(store))), t_review, t_defect)
    store.close()
    return counts


def _run_of(store: Store) -> str:
    (run,) = store.runs()
    return run.run_id


def shown_rate(share: float | None) -> str:
    return percent(share or 0.0).replace("\u00a0", " ")


def test_from_nothing_to_a_tuned_threshold_and_a_report(
    browser_program: str, tmp_path: Path, open_page: OpenPage
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with served(workspace, short=True) as dashboard:
        page = open_page(dashboard)
        for title in ("Start", "Train"):
            if title not in menu_titles(page):
                pytest.skip(f"the menu offers no page {title}")
        walked = from_nothing_to_a_report(page, tmp_path, patience=240)
        assert walked.losses_seen
        store = Store.open(dashboard.place)
        (run,) = store.runs()
        revision = store.revisions(run.model_id, run.calibration_id)[0]
        counts = store.verdict_counts(Asked())
        store.close()
        assert revision.reason == REASON
        assert revision.t_review == pytest.approx(run.t_review + 0.05, abs=0.006)
        report = walked.report.read_text("utf-8")
        assert report.lstrip().lower().startswith("<!doctype html>")
        assert "<script" not in report
        assert run.product in report
        for verdict, count in counts.items():
            assert verdict.value in report
            assert f"{count:,}" in report
        # Pages that are only worth a look now: every one, with all that there is.
        found = {}
        for title in menu_titles(page):
            choose_page(page, title)
            for corner in corners(page):
                found[title, corner] = grave_findings(page)
        assert not any(found.values()), found
        assert "Traceback" not in dashboard.said(), dashboard.said()[-4000:]
        assert dashboard.called() <= {"127.0.0.1", "localhost"}


def test_dragging_a_threshold_moves_the_numbers_and_a_cell_opens_its_pictures(
    tile_dashboard: Dashboard, open_page: OpenPage
) -> None:
    page = open_page(tile_dashboard)
    go(page, "Tune thresholds")
    escape, review_load = metric(page, "Escape"), metric(page, "Review load")
    before = escape.inner_text(), review_load.inner_text(), box(page, "T1, review from")
    handle = page.get_by_role("slider", name="T1, review from")
    place = handle.locator(".grip").bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(x - 5 * step, y)
    # While the mouse is still held.
    expect(escape).not_to_have_text(before[0])
    expect(review_load).not_to_have_text(before[1])
    page.mouse.up()
    settle(page)
    # The last of many moves may still be on its way: boxes and counts agree once it is there.
    deadline = time.monotonic() + 60
    while True:
        t_review, t_defect = box(page, "T1, review from"), box(page, "T2, defect from")
        counts = true_counts(tile_dashboard, t_review, t_defect)
        if escape.inner_text() == shown_rate(counts.escape.share) or time.monotonic() > deadline:
            break
        page.wait_for_timeout(200)
    assert t_review < before[2] - 0.1
    expect(escape).to_have_text(shown_rate(counts.escape.share))
    expect(review_load).to_have_text(shown_rate(counts.review_load.share))
    # The same from the keyboard.
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(number_box(page, "T1, review from")).to_have_value(f"{t_review + 0.02:.2f}")
    settle(page)
    counts = true_counts(tile_dashboard, t_review + 0.02, t_defect)
    expect(escape).to_have_text(shown_rate(counts.escape.share))
    passed = int(counts.table[Truth.DEFECT][0])
    assert passed > 0
    page.get_by_role("tab", name="Verdicts").click()
    cell = page.get_by_test_id("stMain").get_by_role("link", name=f"{passed:,}", exact=True)
    cell.first.click()
    expect(page.get_by_role("heading", name="Gallery", level=1)).to_be_visible()
    settle(page)
    assert f"{passed:,} of {_total(tile_dashboard):,} pictures" in page.get_by_test_id("stMain").inner_text()


def _total(dashboard: Dashboard) -> int:
    store = Store.open(dashboard.place)
    total = sum(store.verdict_counts(Asked()).values())
    store.close()
    return total


def test_twenty_parts_are_reviewed_from_the_keyboard_alone(
    tile_dashboard: Dashboard, open_page: OpenPage
) -> None:
    page = open_page(tile_dashboard)
    if "Review queue" not in menu_titles(page):
        pytest.skip("the menu offers no page Review queue")
    walk_to(page, "Review queue")
    store = Store.open(tile_dashboard.place)
    asked = Asked(run_id=_run_of(store))
    begun = len(store.said(asked))
    keys = ("d", "g", "u", "g", "d") * 4
    for number, key in enumerate(keys, 1):
        here = where(page)
        page.keyboard.press(key)
        expect(page.get_by_text(WHERE)).not_to_have_text(re.compile(re.escape(here)))
        settle(page)
        assert len(store.said(asked)) == begun + number
    said = [word.entry.judgement for word in store.said(asked)][begun:]
    assert said == [{"d": "defect", "g": "good", "u": "unsure"}[key] for key in keys]
    # One too many: taken back, and the part is there again.
    here = where(page)
    page.keyboard.press("z")
    expect(page.get_by_text("Taken back")).to_be_visible()
    settle(page)
    assert where(page) != here
    page.keyboard.press("ArrowRight")
    settle(page)
    page.keyboard.press("ArrowLeft")
    settle(page)
    store.close()


WHERE = re.compile(r"Part [\d,]+ of [\d,]+\.")


def where(page: Page) -> str:
    """Which part of the queue is in focus."""
    found = WHERE.search(page.get_by_text(WHERE).inner_text())
    assert found is not None
    return found[0]


def walk_to(page: Page, title: str) -> None:
    """Go to a page of the menu with the tabulator and Enter."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.textContent?.trim()") == title:
            page.keyboard.press("Enter")
            settle(page)
            return
    raise AssertionError(f"the tabulator does not reach {title}")


def test_two_people_work_at_once(tile_dashboard: Dashboard, open_page: OpenPage) -> None:
    ada, ben = open_page(tile_dashboard), open_page(tile_dashboard)
    for page, name in ((ada, "Ada"), (ben, "Ben")):
        page.get_by_label("You", exact=True).fill(name)
        page.keyboard.press("Enter")
        settle(page)
        go(page, "Tune thresholds")
    # What one tries out does not move under the other's hands.
    before = box(ben, "T2, defect from")
    number_box(ada, "T2, defect from").fill("7.5")
    ada.keyboard.press("Enter")
    settle(ada)
    assert box(ada, "T2, defect from") == 7.5
    choose_page(ben, "Gallery")
    choose_page(ben, "Tune thresholds")
    assert box(ben, "T2, defect from") == before
    # What one says is there for the other.
    go(ada, "Review queue")
    go(ben, "Review queue")
    store = Store.open(tile_dashboard.place)
    asked = Asked(run_id=_run_of(store))
    begun = len(store.said(asked))
    for page, key in ((ada, "g"), (ben, "d"), (ada, "d"), (ben, "u")):
        here = where(page)
        page.keyboard.press(key)
        expect(page.get_by_text(WHERE)).not_to_have_text(re.compile(re.escape(here)))
        settle(page)
    words = [(word.entry.author, word.entry.judgement) for word in store.said(asked)][begun:]
    assert sorted(words) == [("Ada", "defect"), ("Ada", "good"), ("Ben", "defect"), ("Ben", "unsure")]
    store.close()
