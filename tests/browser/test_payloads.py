"""S5 of ``design/trust.md`` in a browser: nothing that comes from outside runs, loads or becomes markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Dialog, Page
from trust.payload_checks import PAYLOADS, hostile_run

from browser.dashboard_process import served
from browser.watching import choose_page, menu_titles

OpenPage = Callable[..., Page]

# A payload that runs marks the page's root; a picture, frame or link of one would lead to that port.
_STARTS = ("http://127.0.0.1:9/", "javascript:")
_FOREIGN = ", ".join(f'[{name}^="{start}"]' for name in ("src", "href") for start in _STARTS)
_ALIVE = f"""() => [
  document.documentElement.dataset.ran ?? null,
  document.querySelectorAll('{_FOREIGN}').length,
]"""


def test_no_payload_is_alive_on_any_page(browser_program: str, tmp_path: Path, open_page: OpenPage) -> None:
    hostile_run(tmp_path, PAYLOADS)
    with served(tmp_path, tmp_path / "runs") as dashboard:
        page = open_page(dashboard)
        dialogs: list[str] = []

        def note(dialog: Dialog) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", note)
        titles = menu_titles(page)
        for title in titles:
            choose_page(page, title)
            assert page.title() in (*titles, "differnet"), title
            assert page.evaluate(_ALIVE) == [None, 0], title
        assert dialogs == []
