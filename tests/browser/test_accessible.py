"""No serious finding of axe-core on any page, light and dark; and that one would be seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from browser.accessibility import grave_findings
from browser.dashboard_process import Dashboard
from browser.watching import choose_page, corners, menu_titles

OpenPage = Callable[..., Page]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_finding(drawn_dashboard: Dashboard, open_page: OpenPage, scheme: str) -> None:
    page = open_page(drawn_dashboard, scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme")
    assert dark == scheme
    titles = menu_titles(page)
    assert len(titles) >= 3
    found = {}
    for title in titles:
        choose_page(page, title)
        assert page.get_by_role("heading", level=1).count() == 1, title
        for corner in corners(page):
            found[title, corner] = grave_findings(page)
    assert not any(found.values()), found


def test_no_page_of_an_empty_record_has_a_serious_finding(
    empty_dashboard: Dashboard, open_page: OpenPage
) -> None:
    for scheme in ("light", "dark"):
        page = open_page(empty_dashboard, scheme=scheme)
        found = {}
        for title in menu_titles(page):
            choose_page(page, title)
            found[title] = grave_findings(page)
        assert not any(found.values()), found


def test_a_finding_is_seen(drawn_dashboard: Dashboard, open_page: OpenPage) -> None:
    page = open_page(drawn_dashboard)
    page.evaluate(
        """() => document.querySelector('[data-testid="stMain"]').insertAdjacentHTML('afterbegin',
             '<button></button><p style="color:#bbb;background:#fff">faint</p>')"""
    )
    found = grave_findings(page)
    assert len(found) == 2, found
    assert any(words.startswith("button-name (critical)") for words in found)
    assert any(words.startswith("color-contrast (serious)") for words in found)
