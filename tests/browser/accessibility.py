"""What axe-core finds on a page, less what was looked at and is Streamlit's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_GRAVE = ("serious", "critical")


@dataclass(frozen=True)
class Accepted:
    """A finding that stays.

    Attributes:
        rule: Of axe-core.
        part: Of the element's HTML, by which it is known.
        reason: Why nothing can be done about it here, and what a person has instead.
    """

    rule: str
    part: str
    reason: str


ACCEPTED: tuple[Accepted, ...] = ()


def grave_findings(page: Page) -> list[str]:
    """Look at a page as it is now for whatever is serious or critical.

    Args:
        page: The browser's page.

    Returns:
        Rule, what it says, and the element of each; none where all is well.
    """
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: {node['html'][:300]}"
        for rule in found
        if rule["impact"] in _GRAVE
        for node in rule["nodes"]
        if not any(known.rule == rule["id"] and known.part in node["html"] for known in ACCEPTED)
    ]
