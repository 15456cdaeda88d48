"""S4 and S5 of ``design/trust.md`` for dropped pictures: judged by content, never by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect
from trust.batch_checks import make_model, make_parts
from typer.testing import CliRunner

from browser.dashboard_process import served
from browser.watching import choose_page, menu_titles, settle
from differnet.cli import app
from differnet.images.reading import encode_png
from differnet.store import Asked, Store

OpenPage = Callable[..., Page]

RAN = "document.documentElement.dataset.ran"


@pytest.fixture
def workshop(browser_program: str, tmp_path: Path) -> Path:
    """A workspace, below a folder of the test's own, with a small model and a run by it."""
    folder = tmp_path / "a" / "b" / "workspace"
    make_parts(tmp_path / "good", 34, 1)
    make_parts(tmp_path / "shift", 4, 2)
    make_model(tmp_path / "good", folder / "models" / "plate", 0)
    words = ["inspect", folder / "models" / "plate", tmp_path / "shift", "--out", folder / "runs" / "monday"]
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert ended.exit_code == 0, ended.stderr
    return folder


def test_dropped_pictures_are_judged_by_content_and_kept_under_names_of_their_own(
    workshop: Path, open_page: OpenPage
) -> None:
    part = next((workshop.parents[2] / "shift").iterdir()).read_bytes()
    noise = np.random.default_rng(5).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    dropped: list[FilePayload] = [
        {"name": "../../../outside.png", "mimeType": "image/png", "buffer": part},
        {"name": "C:\\outside.png", "mimeType": "image/png", "buffer": encode_png(noise[0])},
        {"name": f"<img src=x onerror={RAN}=1>.png", "mimeType": "image/png", "buffer": encode_png(noise[1])},
        {"name": "![x](http://127.0.0.1:9/).png", "mimeType": "image/png", "buffer": encode_png(noise[2])},
        {"name": "text.png", "mimeType": "image/png", "buffer": f"<script>{RAN}=1</script>".encode()},
    ]
    outside = {path for path in workshop.parents[2].rglob("*") if not path.is_relative_to(workshop)}
    with served(workshop, workshop / "runs") as dashboard:
        page = open_page(dashboard)
        if "Inspect" not in menu_titles(page):
            pytest.skip("the menu offers no page Inspect")
        choose_page(page, "Inspect")
        page.locator('input[type="file"]').first.set_input_files(dropped)
        keep = page.get_by_role("button", name="Keep in the record")
        expect(keep).to_be_visible()
        settle(page)
        assert page.get_by_test_id("stMain").get_by_text("INVALID").count() == 1
        keep.click()
        settle(page)
        store = Store.open(dashboard.place)
        (run,) = [run for run in store.runs() if run.run_id != "monday" and "monday" not in run.folder]
        records = store.items(Asked(run_id=run.run_id))
        store.close()
        assert len(records) == len(dropped)
        choose_page(page, "Gallery")
        assert page.evaluate(f"{RAN} ?? null") is None
        written = dashboard.written()
    assert {path for path in workshop.parents[2].rglob("*") if not path.is_relative_to(workshop)} == outside
    assert not [path for path in written if "outside" in path.name or "onerror" in path.name]
