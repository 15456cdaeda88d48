"""S5 of ``design/trust.md`` in a browser: nothing that comes from outside runs, loads or becomes markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Dialog, Page
from trust.payload_checks import PAYLOADS, hostile_run

from browser.dashboard_process import served
from browser.watching import choose_page, menu_titles

OpenPage = Callable[..., Page]

# A payload that runs marks the root. Of what a page loads or leads to, nothing may come from one, but for
# an address that a reader sees as such: Streamlit makes a link of it wherever it stands in words.
_ALIVE = """() => [
  document.documentElement.dataset.ran ?? null,
  [...document.querySelectorAll('[src], [href]')]
    .filter((each) => /^(http:..127.0.0.1:9($|[^0-9])|javascript:)/.test(
      each.getAttribute('src') ?? each.getAttribute('href')))
    .filter((each) => !(each.tagName === 'A' && each.textContent.startsWith('http://127.0.0.1:9/')))
    .map((each) => each.outerHTML.slice(0, 300)),
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
            assert page.evaluate(_ALIVE) == [None, []], title
        assert dialogs == []
